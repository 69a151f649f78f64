// The daemons of a folder, played by small programs; the coordinator's answers
// come from a fake in this process.

#include "coordinator/qctl/local_cluster.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/stat.h>

#include "common/base/error_codes.h"
#include "coordinator/qctl/process.h"
#include "tests/support/fake_coordinator.h"
#include "tests/support/temp_dir.h"

namespace qsweep::qctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kStays[] = "#!/bin/sh\nexec tail -f /dev/null\n";
constexpr char kIgnoresTerm[] =
    "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do read x < $0.fifo; done\n";
constexpr char kEndsAtOnce[] = "#!/bin/sh\necho the disk is on fire\nexit 1\n";

class LocalClusterTest : public ::testing::Test {
 protected:
  LocalClusterTest() {
    std::filesystem::create_directory(dir_ + "/bin");
    options_.dir = dir_;
    options_.binary_dir = dir_ + "/bin";
    options_.patience = absl::Seconds(20);
  }
  ~LocalClusterTest() override {
    EXPECT_TRUE(StopCluster(dir_, absl::Milliseconds(100)).ok());
  }

  void Install(const std::string& name, const std::string& script) {
    const std::string path = dir_ + "/bin/" + name;
    std::ofstream(path) << script;
    chmod(path.c_str(), 0755);
    mkfifo((path + ".fifo").c_str(), 0600);
  }

  const testing::TempDir temp_;
  const std::string dir_ = temp_.path();
  ClusterOptions options_;
};

TEST_F(LocalClusterTest, StartsOnlyWhatIsMissing) {
  const testing::FakeCoordinator fake(dir_);
  Install("qcoordinator", kStays);
  Install("qworker", kStays);
  const auto first = StartCluster(options_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->processes.size(), 2U);
  EXPECT_TRUE(first->processes[0].started);
  const auto again = StartCluster(options_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->processes[0].started);
  EXPECT_EQ(again->processes[0].pid, first->processes[0].pid);
  EXPECT_EQ(again->processes[1].pid, first->processes[1].pid);
  const auto worker = ReadPidFile(dir_ + "/worker-1.pid");
  ASSERT_TRUE(worker && SendSignal(*worker, SIGKILL));
  EXPECT_TRUE(WaitForExit(*worker, absl::Seconds(10)));
  const auto healed = StartCluster(options_);
  ASSERT_TRUE(healed.ok()) << healed.status();
  EXPECT_FALSE(healed->processes[0].started);
  EXPECT_TRUE(healed->processes[1].started);
}

// Each would take most of it.
TEST_F(LocalClusterTest, SharesThreadsAndMemoryAmongItsWorkers) {
  const auto flag = [this](const std::string& name) {
    const auto arguments = WorkerArguments(options_, "unix:s", "worker-2");
    const auto at = std::find(arguments.begin(), arguments.end(), name);
    return at == arguments.end() ? "" : *(at + 1);
  };
  EXPECT_EQ(flag("--dir"), dir_ + "/worker-2");
  EXPECT_EQ(flag("--memory"), "");
  options_.workers = 3;
  EXPECT_EQ(flag("--memory"), "26%");
  options_.workers = 1000;
  EXPECT_EQ(flag("--memory"), "1%");
  EXPECT_EQ(flag("--threads"), "1");
  options_.threads = 7;
  EXPECT_EQ(flag("--threads"), "7");
}

TEST_F(LocalClusterTest, ShowsTheLog_WhenAProcessEndsAtOnce) {
  Install("qcoordinator", kEndsAtOnce);
  const absl::Status status = StartCluster(options_).status();
  EXPECT_EQ(GetErrorInfo(status)->code, "QS4050");
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is on fire"));
  EXPECT_EQ(GetErrorInfo(status)->field, dir_ + "/logs/coordinator.log");
}

TEST_F(LocalClusterTest, PassesOnTheErrorOfAProcess_ButNotOneOfAnEarlierRun) {
  Install("qcoordinator",
          "#!/bin/sh\nprintf 'error[QS4002]: cannot listen   at --listen\\n"
          "  hint: another port\\n'\nexit 1\n");
  const absl::Status status = StartCluster(options_).status();
  EXPECT_EQ(status,
            MakeError(kPortInUse, "cannot listen", "--listen", "another port"));
  Install("qcoordinator", "#!/bin/sh\nexit 1\n");
  EXPECT_EQ(GetErrorInfo(StartCluster(options_).status())->code, "QS4050");
}

TEST_F(LocalClusterTest, NamesTheProgram_WhenItIsMissing) {
  const absl::Status status = StartCluster(options_).status();
  EXPECT_EQ(GetErrorInfo(status)->code, "QS4050");
  EXPECT_EQ(GetErrorInfo(status)->field, dir_ + "/bin/qcoordinator");
}

TEST_F(LocalClusterTest, StopsWorkersFirst_AndKillsWhatDoesNotEnd) {
  const testing::FakeCoordinator fake(dir_);
  Install("qcoordinator", kStays);
  Install("qworker", kIgnoresTerm);
  const auto cluster = StartCluster(options_);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const auto stopped = StopCluster(dir_, absl::Milliseconds(200));
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_THAT(*stopped, ElementsAre("worker-1", "coordinator"));
  EXPECT_THAT(ListCluster(dir_), IsEmpty());
  for (const ClusterProcess& process : cluster->processes) {
    EXPECT_FALSE(
        std::filesystem::exists(absl::StrCat(dir_, "/", process.name, ".pid")));
  }
  EXPECT_THAT(*StopCluster(dir_, absl::ZeroDuration()), IsEmpty());
}

TEST_F(LocalClusterTest, LeavesAProcessAlone_WhenItOnlyHasTheNumber) {
  // Our own number with another start time: a pid file from before a reboot.
  std::ofstream(dir_ + "/worker-1.pid") << getpid() << " 1\n";
  EXPECT_THAT(*StopCluster(dir_, absl::ZeroDuration()), IsEmpty());
  EXPECT_FALSE(ReadPidFile(dir_ + "/worker-1.pid").has_value());
}

TEST(RunProgram, GivesBothStreamsAndTheExitCode) {
  const auto result =
      RunProgram({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(RunProgram({"/bin/sh", "-c", "kill -9 $$"})->exit_code, 137);
  EXPECT_EQ(GetErrorInfo(RunProgram({"/nowhere"}).status())->code, "QS5001");
}

}  // namespace
}  // namespace qsweep::qctl
