// What real processes make of a damaged or newer database, of copies of a
// worker, of an old worker and of clocks that are a year off.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "common/base/random.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sql_oracles.h"
#include "tests/e2e/sweeps.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr char kFaketime[] =
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A folder of a coordinator with a finished sweep in it, stopped cleanly.
class DatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
    sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "1"}};
    LocalCluster cluster(sweep.cluster);
    ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
    const std::string job = SubmitSweep(cluster, sweep);
    cluster.StartWorker("w1", 1);
    cluster.StartWorker("w2", 1);
    ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
    cluster.coordinator().Signal(SIGTERM);
    ASSERT_EQ(cluster.coordinator().Wait(kPatience), 0) << cluster.Logs();
    fs::copy(
        cluster.coordinator_dir(), directory(),
        fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  std::string directory() const { return dir_ / "coordinator"; }
  std::string database() const { return DatabasePath(directory()); }

  struct Outcome {
    bool serves = false;
    int status = 0;  // of waitpid, when it does not
    std::string log;
  };
  // Starts a coordinator on the folder; stops it when it serves.
  Outcome Serve() {
    const std::string log = dir_ / absl::StrCat("log-", ++starts_);
    const std::string server = directory() + "/server";
    fs::remove(server);
    const auto process = ChildProcess::Start(
        {.argv = {QSWEEP_BINARY_DIR "/bin/qcoordinator", "serve", "--dir",
                  directory(), "--listen", "unix:" + (dir_ / "sock")},
         .log_path = log});
    Outcome outcome;
    EXPECT_TRUE(AwaitTrue(kPatience, [&] {
      outcome.serves = fs::exists(server);
      return outcome.serves || !process->running();
    }));
    if (outcome.serves) {
      process->Signal(SIGTERM);
    }
    outcome.status = process->Wait(kPatience).value_or(-1);
    outcome.log = ReadFile(log);
    return outcome;
  }

  TempDir dir_;
  int starts_ = 0;
};

TEST_F(DatabaseTest, RefusesTheNextVersion_AndSaysWhatToDo) {
  {
    auto file = Database::Open(database(), Database::Mode::kReadWriteCreate);
    QSWEEP_ASSERT_OK(file);
    QSWEEP_ASSERT_OK(file->Execute(
        absl::StrCat("PRAGMA user_version=", CurrentSchemaVersion() + 1)));
  }
  const std::string before = ReadFile(database());
  const Outcome outcome = Serve();
  EXPECT_FALSE(outcome.serves);
  EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) != 0);
  EXPECT_THAT(outcome.log, AllOf(HasSubstr("error[QS4005]"),
                                 HasSubstr(database()), HasSubstr("hint:")));
  EXPECT_TRUE(ReadFile(database()) == before);
}

// SQLite keeps no checksums: a byte of a value may go unseen. But whatever
// byte it is, the coordinator serves or names the damage; it never crashes.
TEST_F(DatabaseTest, NamesTheDamageOrServes_WhateverByteIsFlipped) {
  constexpr int kFlips = 24;
  constexpr int64_t kPage = 4096;
  const std::string good = ReadFile(database());
  const auto pages = static_cast<uint64_t>(good.size()) / kPage;
  Random random(20261126);
  int refused = 0;
  for (int flip = 0; flip < kFlips; ++flip) {
    std::string bad = good;
    const size_t page = static_cast<size_t>(random.Below(pages)) * kPage;
    // Every other flip hits a page's header, which has to be seen.
    const bool header = flip % 2 == 0;
    const size_t at = page + (header ? random.Below(8) : random.Below(kPage));
    bad[at] = static_cast<char>(bad[at] ^ (1 << random.Below(8)));
    SCOPED_TRACE(absl::StrCat("byte ", at, " of ", bad.size()));
    std::ofstream(database(), std::ios::binary | std::ios::trunc) << bad;
    fs::remove(database() + "-wal");
    fs::remove(database() + "-shm");
    const Outcome outcome = Serve();
    ASSERT_TRUE(WIFEXITED(outcome.status))
        << "signal " << WTERMSIG(outcome.status) << "\n"
        << outcome.log;
    if (!outcome.serves) {
      ++refused;
      EXPECT_THAT(outcome.log, AnyOf(HasSubstr("error[QS4006]"),
                                     HasSubstr("error[QS4005]")));
      EXPECT_THAT(outcome.log, HasSubstr("hint:"));
    }
  }
  EXPECT_GE(refused, kFlips / 4) << "hardly any damage was seen";
}

TEST(WorkerCopies, WorkOnAsTwoWorkers) {
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
  sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "50"}};
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w1", 1);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitWorkers(1));
  const std::string job = SubmitSweep(cluster, sweep);
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster.Job(job).tasks_done() > 0;
  })) << cluster.Logs();
  fs::copy(cluster.path() + "/w1", cluster.path() + "/w2",
           fs::copy_options::recursive);
  cluster.StartWorker("w2", 1);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitWorkers(2));
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster.Rows(job).size(), sweep.num_measurements);
  // Both went on, and no longer as one.
  EXPECT_TRUE(cluster.worker("w1").running()) << cluster.Logs();
  EXPECT_TRUE(cluster.worker("w2").running()) << cluster.Logs();
  EXPECT_EQ(cluster.QueryInteger("SELECT count(*) FROM workers_v1"), 2);
  EXPECT_EQ(cluster.QueryInteger("SELECT count(DISTINCT worker) FROM "
                                 "attempts_v1 WHERE useful"),
            2);
  EXPECT_THAT(FindViolations(cluster.coordinator_dir() + "/coordinator.db", {}),
              IsEmpty());
}

TEST(WorkerProtocol, IsRefusedByName_WhenItIsTooOld) {
  LocalCluster::Options options;
  options.engine = QSWEEP_BINARY_DIR "/tests/fake_qengine";
  options.worker_flags = {"--protocol-max", "0"};
  LocalCluster cluster(options);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w1", 1);
  const std::optional<int> status = cluster.worker("w1").Wait(kPatience);
  ASSERT_TRUE(status.has_value()) << cluster.Logs();
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) != 0);
  EXPECT_THAT(cluster.Logs(),
              AllOf(HasSubstr("error[QS6003]"), HasSubstr("0 to 0"),
                    HasSubstr("1 to 1"), HasSubstr("hint:")));
}

class ClockTest
    : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

// Whole processes under libfaketime; the coordinator is killed once, so that
// what it stored of time is read again.
TEST_P(ClockTest, FinishesASweep_WhenClocksAreAYearOff) {
  if (!fs::exists(kFaketime)) {
    GTEST_SKIP() << "needs libfaketime (Debian package faketime)";
  }
  const auto environment = [](const char* offset) {
    return std::map<std::string, std::string>{{"LD_PRELOAD", kFaketime},
                                              {"FAKETIME", offset},
                                              {"DONT_FAKE_MONOTONIC", "1"},
                                              {"QSWEEP_FAKE_DELAY_MS", "50"}};
  };
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
  sweep.cluster.coordinator_environment = environment(GetParam().first);
  sweep.cluster.worker_environment = environment(GetParam().second);
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  const std::string job = SubmitSweep(cluster, sweep);
  cluster.StartWorker("w1", 1);
  cluster.StartWorker("w2", 1);
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster.Job(job).tasks_done() > 4;
  })) << cluster.Logs();
  cluster.KillCoordinator();
  // The clock has been set right meanwhile.
  cluster.options().coordinator_environment = environment("+0");
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster.Rows(job).size(), sweep.num_measurements);
  EXPECT_EQ(cluster.QueryInteger(
                "SELECT count(*) FROM attempts_v1 WHERE outcome = 'lost'"),
            0);
  // The faketime is in force: the first rows are a year from the last.
  EXPECT_EQ(cluster.QueryInteger(
                "SELECT count(DISTINCT substr(granted_at, 1, 4)) > 1 FROM "
                "attempts_v1"),
            GetParam().first == std::string("+0") ? 0 : 1);
}

INSTANTIATE_TEST_SUITE_P(Offsets, ClockTest,
                         ::testing::Values(std::pair("+365d", "+0"),
                                           std::pair("-365d", "+0"),
                                           std::pair("+0", "+365d")));

}  // namespace
}  // namespace qsweep::testing
