#include "coordinator/store/read_gate.h"

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/reader.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

// Readers that each begin again as soon as they have read for some
// milliseconds: at every moment one of them reads.
class SteadyReads {
 public:
  SteadyReads(const std::string& directory,
              const std::shared_ptr<ReadGate>& gate) {
    for (int i = 0; i < 4; ++i) {
      auto reader = Reader::Open(directory, Clock::Real(), gate);
      EXPECT_EQ(reader.status(), absl::OkStatus());
      readers_.push_back(*std::move(reader));
    }
    for (const std::unique_ptr<Reader>& reader : readers_) {
      threads_.emplace_back([this, &reader] {
        v1::QueryRequest request;
        request.set_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "WHERE i < 100000) SELECT max(i) + (SELECT count(*) FROM jobs_v1) "
            "FROM n");
        while (!ending_) {
          failed_ = failed_ || !reader->Query(request, {}).ok();
          ++reads_;
        }
      });
    }
  }
  ~SteadyReads() {
    ending_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
    EXPECT_FALSE(failed_);
  }
  int64_t reads() const { return reads_; }

 private:
  std::atomic<bool> ending_ = false;
  std::atomic<bool> failed_ = false;
  std::atomic<int64_t> reads_ = 0;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::thread> threads_;
};

class CommitsBytes {
 public:
  explicit CommitsBytes(Store& store) : store_(store) {}
  // The size of the log after it.
  int64_t Commit(size_t bytes) {
    const std::string number = absl::StrCat(++number_);
    const Mutation added =
        ArtifactAdded{.digest = Digest::Of(number),
                      .bytes = std::make_shared<const std::string>(bytes, 'x')};
    EXPECT_EQ(store_.Commit(std::span(&added, 1)), absl::OkStatus());
    return store_.GetInfo()->wal_bytes;
  }

 private:
  Store& store_;
  int number_ = 0;
};

TEST(ReadGate, LetsTheLogBeginAnew_WhileReadsOverlap) {
  constexpr int64_t kMost = int64_t{10} << 20;
  TempDir directory;
  const auto gate = std::make_shared<ReadGate>(kMost, absl::Seconds(60));
  auto store =
      OpenSqliteStore({.directory = directory.path(), .read_gate = gate});
  QSWEEP_ASSERT_OK(store);
  QSWEEP_ASSERT_OK(AnalysisCache::Open(AnalysisCache::Path(directory.path())));
  CommitsBytes commits(**store);
  SteadyReads reads(directory.path(), gate);
  while (reads.reads() < 8) {
    std::this_thread::yield();
  }
  while (commits.Commit(size_t{256} << 10) <= kMost) {
  }
  const SteadyTime end = Clock::Real().SteadyNow() + absl::Seconds(30);
  int64_t log = 2 * kMost;
  while (log > kMost / 10 && Clock::Real().SteadyNow() < end) {
    log = commits.Commit(100);
  }
  EXPECT_LE(log, kMost / 10);
  EXPECT_FALSE(gate->closed());
  for (const int64_t before = reads.reads(); reads.reads() < before + 8;) {
    std::this_thread::yield();  // they go on
  }
}

TEST(ReadGate, HoldsNobodyForLong_WhenOneReadDoesNotEnd) {
  ReadGate gate(100, absl::Milliseconds(20));
  gate.Watch(100);
  EXPECT_FALSE(gate.closed());
  const SteadyTime began = Clock::Real().SteadyNow();
  gate.Watch(101);
  gate.Wait();
  EXPECT_GE(Clock::Real().SteadyNow() - began, absl::Milliseconds(20));
  EXPECT_FALSE(gate.closed());
}

TEST(ReadGate, ClosesAgainOnlyAfterAPause_UnlessTheLogBeganAnew) {
  ReadGate gate(100, absl::Hours(1));
  gate.Watch(101);
  EXPECT_TRUE(gate.closed());
  gate.Watch(0);
  EXPECT_FALSE(gate.closed());
  gate.Watch(101);
  EXPECT_TRUE(gate.closed());
  ReadGate paused(100, absl::Milliseconds(100));
  paused.Watch(101);
  paused.Wait();
  paused.Watch(200);
  EXPECT_FALSE(paused.closed());
}

}  // namespace
}  // namespace qsweep::testing
