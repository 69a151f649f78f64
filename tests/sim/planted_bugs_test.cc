// Negative controls: a simulation that does not find these proves nothing.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/wait.h>

namespace qsweep::sim {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

struct Outcome {
  int exit_code = 0;  // -1: a signal
  std::string output;
};

Outcome RunCommand(const std::string& command) {
  Outcome outcome;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  while (pipe != nullptr) {
    const size_t size = fread(buffer, 1, sizeof buffer, pipe);
    if (size == 0) {
      break;
    }
    outcome.output.append(buffer, size);
  }
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

class PlantedBug : public ::testing::TestWithParam<const char*> {};

TEST_P(PlantedBug, IsFoundWithin500Seeds) {
  const Outcome outcome = RunCommand(
      absl::StrCat(QSWEEP_BINARY_DIR "/tests/qsim_planted --planted ",
                   GetParam(), " --seeds 1:500 --tasks 100"));
  EXPECT_NE(outcome.exit_code, 0);
  // A violation, or a check of the product that ended the process.
  EXPECT_THAT(outcome.output,
              AnyOf(HasSubstr(": invariant "), HasSubstr(": aborted")));
}

INSTANTIATE_TEST_SUITE_P(
    Simulation, PlantedBug,
    ::testing::Values("synchronous-normal", "acknowledge-before-commit",
                      "commit-without-epoch", "deadlines-on-wall-clock",
                      "requeue-on-stream-loss", "preemption-charged",
                      "measurements-not-unique", "second-writer",
                      "bad-request-poisons-batch", "fit-ignores-memory"));

struct Check {
  const char* bug;
  const char* test;
};

// Those that no schedule of messages and crashes shows.
class PlantedDefect : public ::testing::TestWithParam<Check> {};

TEST_P(PlantedDefect, IsFoundByItsTest) {
  const std::string run = absl::StrCat(
      QSWEEP_BINARY_DIR
      "/tests/test_sim_second_compilation --gtest_filter=SecondCompilation.",
      GetParam().test);
  const Outcome sound = RunCommand(run);
  EXPECT_EQ(sound.exit_code, 0) << sound.output;
  EXPECT_THAT(sound.output, HasSubstr("[  PASSED  ] 1 test."));
  const Outcome outcome =
      RunCommand(absl::StrCat("QSWEEP_PLANTED=", GetParam().bug, " ", run));
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
}

INSTANTIATE_TEST_SUITE_P(
    Simulation, PlantedDefect,
    ::testing::Values(
        Check{"backup-in-steps", "BackupEnds_UnderWrites"},
        Check{"heartbeat-on-compute-thread", "HeartbeatsGoOn_WhileATaskRuns"},
        Check{"unbounded-watch-buffer", "CutsAWatcher_WhoDoesNotRead"}));

TEST(PlantedBugs, AreAbsentFromTheProduct) {
  const Outcome planted = RunCommand("nm -C " QSWEEP_BINARY_DIR
                                     "/tests/qsim_planted | grep -c "
                                     "'qsweep::Planted(qsweep::Bug)'");
  EXPECT_EQ(planted.output, "1\n") << "the control of this test";
  for (const char* binary : {"qcoordinator", "qworker", "qctl", "qsim"}) {
    const std::string path = absl::StrCat(QSWEEP_BINARY_DIR, "/bin/", binary);
    ASSERT_EQ(RunCommand("test -x " + path).exit_code, 0) << path;
    EXPECT_EQ(RunCommand("nm -C " + path + " | grep Planted").output, "")
        << path;
  }
}

}  // namespace
}  // namespace qsweep::sim
