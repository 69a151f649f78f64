// A coordinator's database after its disk did what disks do. The input: damage
// to a sound file with a job at work. It is refused with a named error, or the
// loop serves from it: never a crash, never an endless load.
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "common/base/log.h"
#include "coordinator/loop.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/backup.h"
#include "coordinator/store/reader.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/no_reserve.h"
#include "tests/fuzz/scratch.h"
#include "tests/support/simulated_clock.h"
#include "tests/support/sweep_batches.h"

namespace qsweep::fuzz {
namespace {

// A database with a task done, one at work and one waiting, and a token.
std::string SoundDatabase() {
  const Scratch folder;
  {
    auto store = OpenSqliteStore({.directory = folder.path()});
    QSWEEP_CHECK(store.ok());
    for (const auto& batch : testing::WholeSweep()) {
      QSWEEP_CHECK((*store)->Commit(batch).ok());
    }
    QSWEEP_CHECK((*store)->Commit(testing::SubmitBatch(2)).ok());
    QSWEEP_CHECK((*store)->Commit(testing::LeaseBatch(3, 1)).ok());
    const Mutation token = TokenAdded{Token{.id = TokenId(1),
                                            .secret = Digest::Of("secret"),
                                            .kind = v1::TOKEN_KIND_JOIN,
                                            .role = v1::ROLE_WORKER,
                                            .name = "box"}};
    QSWEEP_CHECK((*store)->Commit(std::span(&token, 1)).ok());
    QSWEEP_CHECK((*store)->Idle().ok());  // all of it is in the one file now
  }
  std::ifstream file(DatabasePath(folder.path()), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Each operation: a place, and what becomes of it. A text of the file may
// become another of the same length: what no check of pages sees.
void Damage(Input& input, std::string& bytes) {
  static const char* const kWords[][2] = {
      {"ready", "doned"},         {"leased", "ready"},
      {"done", "read"},           {"queued", "paused"},
      {"running", "stopped"},     {"succeeded", "cancelled"},
      {"committed", "cancelled"}, {"worker", "submit"},
      {"open", "drai"},           {"aligned@1", "aligned@2"}};
  constexpr int kMostPlaces = 8;
  for (int i = 0; i < kMostPlaces && !input.empty(); ++i) {
    const uint8_t what = input.Byte();
    if (what < 8) {
      bytes.resize(input.Below(bytes.size() + 1));
    } else if (what < 96) {
      const auto& [from, to] = kWords[what % std::size(kWords)];
      size_t at = bytes.find(from);
      for (uint64_t n = input.Below(16); n > 0 && at != std::string::npos;
           --n) {
        at = bytes.find(from, at + 1);
      }
      if (at != std::string::npos) {
        bytes.replace(at, std::strlen(from), to, std::strlen(from));
      }
    } else if (!bytes.empty()) {
      const size_t at = input.Below(bytes.size());
      bytes[at] = static_cast<char>(what < 176 ? bytes[at] ^ (1 << what % 8)
                                               : input.Byte());
    }
  }
}

void ReadAll(Store& store) {
  for (int64_t job = 1; job <= 2; ++job) {
    OkOrNamed(store.ReadJob(JobNumber(job)));
    OkOrNamed(store.ReadEvents(JobNumber(job), EventSeq(0), 100));
  }
  for (int64_t task = 1; task <= 4; ++task) {
    OkOrNamed(store.ReadTaskSpec(TaskId(task)));
  }
  const auto configurations = testing::SweepConfigurations();
  const auto documents = testing::SweepDocuments();
  OkOrNamed(
      store.MeasuredStatuses(testing::kEvaluation, configurations, documents));
  OkOrNamed(
      store.ReadMeasurements(testing::kEvaluation, configurations, documents));
}

// The loop on the damaged database, for a while.
void Serve(std::unique_ptr<Store> store) {
  testing::SimulatedClock clock;
  Loop loop(std::move(store), Settings(), clock, 7);
  absl::Status status = loop.Start();
  ExpectNamed(status);
  for (int hour = 0; hour < 3 && status.ok(); ++hour) {
    loop.Post(v1::ListJobsRequest(), [](const auto&) {});
    loop.Post(v1::ListTasksRequest(), [](const auto&) {});
    loop.Post(v1::ListWorkersRequest(), [](const auto&) {});
    v1::GetJobRequest job;
    job.mutable_job()->set_text("1");
    loop.Post(job, [](const auto&) {});
    v1::ExplainTaskRequest task;
    task.set_task_id(3);
    loop.Post(task, [](const auto&) {});
    v1::ControlJobRequest retry;
    retry.mutable_job()->set_text("2");
    retry.set_action(v1::JOB_ACTION_RETRY);
    loop.Post(Caller{}, retry, [](const auto&) {});
    status = loop.Step(clock.SteadyNow());
    clock.Advance(absl::Hours(1));
  }
  loop.End(status);
}

void ReadRows(const std::string& folder) {
  const auto reader = Reader::Open(folder, Clock::Real());
  if (!reader.ok()) {
    return;
  }
  for (int64_t job = 1; job <= 2; ++job) {
    (*reader)->ReadJobRows(JobNumber(job), {}).status().IgnoreError();
    const auto configurations = (*reader)->ExportConfigurations(JobNumber(job));
    for (size_t i = 0; configurations.ok() && i < configurations->size(); ++i) {
      (*reader)
          ->ExportRows(JobNumber(job), (*configurations)[i], ExportPosition(),
                       100)
          .status()
          .IgnoreError();
    }
  }
}

void CheckDamaged(Input& input) {
  static const std::string kSound = SoundDatabase();
  static const Scratch kFolder;
  kFolder.Clear();
  std::string bytes = kSound;
  Damage(input, bytes);
  const std::string path = kFolder.Write("coordinator.db", bytes);
  ExpectNamed(FindDatabaseProblems(path).status());
  auto cache = AnalysisCache::Open(AnalysisCache::Path(kFolder.path()));
  Expect(cache.ok(), "a cache is not made");
  ReadRows(kFolder.path());
  // With the name of SQLite's own VFS it takes our reserve.
  auto store = OpenSqliteStore({.directory = kFolder.path(),
                                .vfs = "unix",
                                .reserve = std::make_unique<NoReserve>()});
  if (!OkOrNamed(store)) {
    return;
  }
  ReadAll(**store);
  Serve(*std::move(store));
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool kQuiet = [] {
    qsweep::SilenceLog();
    return true;
  }();
  static_cast<void>(kQuiet);
  qsweep::fuzz::Input input(data, size);
  qsweep::fuzz::CheckDamaged(input);
  return 0;
}
