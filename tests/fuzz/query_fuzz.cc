// What `qctl query` sends. The input: SQL. Whatever it is, the files of the
// coordinator stay as they are and the answer comes in time.
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/query_guard.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/scratch.h"
#include "tests/support/sweep_batches.h"

namespace qsweep::fuzz {
namespace {

constexpr uint32_t kDeadlineMs = 300;
constexpr absl::Duration kSlowest = absl::Seconds(5);  // under a sanitizer
constexpr int kMostRows = 100;

// A coordinator's folder with a whole sweep, and a guard on it.
class Guarded {
 public:
  Guarded() {
    auto store = OpenSqliteStore({.directory = folder_.path()});
    QSWEEP_CHECK(store.ok());
    store_ = *std::move(store);
    for (const auto& batch : testing::WholeSweep()) {
      QSWEEP_CHECK(store_->Commit(batch).ok());
    }
    auto database = OpenReader(DatabasePath(folder_.path()));
    QSWEEP_CHECK(database.ok());
    const std::string path = AnalysisCache::Path(folder_.path());
    auto cache = AnalysisCache::Open(path);
    QSWEEP_CHECK(cache.ok());
    cache_ = *std::move(cache);
    auto guard = QueryGuard::Create(*std::move(database), path, Clock::Real());
    QSWEEP_CHECK(guard.ok());
    guard_ = *std::move(guard);
    files_ = Files();
  }

  void Run(const std::string& sql) {
    v1::QueryRequest request;
    request.set_sql(sql);
    request.set_limit(kMostRows);
    request.set_deadline_ms(kDeadlineMs);
    const SteadyTime began = Clock::Real().SteadyNow();
    const auto response = guard_->Run(request, {});
    Expect(Clock::Real().SteadyNow() - began < kSlowest,
           "a query goes on after its deadline");
    if (OkOrNamed(response)) {
      Expect(response->rows_size() <= kMostRows, "more rows than asked for");
      for (const v1::QueryRow& row : response->rows()) {
        Expect(row.values_size() == response->columns_size(),
               "a row of another width");
      }
    }
    Expect(Files() == files_, "a query changed a file");
  }

 private:
  // Name -> bytes, but for the WAL index, where readers leave their marks.
  std::map<std::string, std::string> Files() const {
    std::map<std::string, std::string> files;
    for (const auto& entry :
         std::filesystem::directory_iterator(folder_.path())) {
      const std::string name = entry.path().filename();
      if (!name.ends_with("-shm") && name != "coordinator.reserve") {
        std::ifstream file(entry.path(), std::ios::binary);
        files[name].assign(std::istreambuf_iterator<char>(file), {});
      }
    }
    return files;
  }

  const Scratch folder_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<AnalysisCache> cache_;
  std::unique_ptr<QueryGuard> guard_;
  std::map<std::string, std::string> files_;
};

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static qsweep::fuzz::Guarded guarded;
  guarded.Run(qsweep::fuzz::Input(data, size).Rest());
  return 0;
}
