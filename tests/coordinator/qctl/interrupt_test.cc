// Ctrl-C on a real qctl: it goes, the job stays.
#include <csignal>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/wait.h>

#include "tests/support/child_process.h"
#include "tests/support/fake_coordinator.h"
#include "tests/support/temp_dir.h"

namespace qsweep::qctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(60);

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Interrupt, DetachesAndSaysHowToComeBack) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"watch", "12"},
        std::vector<std::string>{"watch", "12", "-o", "jsonl"},
        std::vector<std::string>{"wait", "12"}}) {
    SCOPED_TRACE(command[0] + " " + command.back());
    const testing::TempDir dir;
    testing::FakeCoordinator fake(dir.path());
    v1::JobSummary job;
    job.set_job_number(12);
    job.set_job_uuid(std::string(16, 'u'));
    job.set_state(v1::JOB_STATE_RUNNING);
    fake.script().jobs = {job};
    fake.script().watch_until_cancelled = true;
    std::vector<std::string> argv = {QSWEEP_BINARY_DIR "/bin/qctl"};
    argv.insert(argv.end(), command.begin(), command.end());
    argv.insert(argv.end(), {"--dir", dir.path()});
    const std::string log = dir.path() + "/log";
    const auto qctl =
        testing::ChildProcess::Start({.argv = argv, .log_path = log});
    ASSERT_TRUE(testing::AwaitTrue(kPatience, [&] {
      return fake.num_watches() > 0;
    })) << ReadFile(log);
    qctl->Signal(SIGINT);
    const std::optional<int> status = qctl->Wait(kPatience);
    ASSERT_TRUE(status.has_value());
    ASSERT_TRUE(WIFEXITED(*status));
    EXPECT_EQ(WEXITSTATUS(*status), 130);
    EXPECT_THAT(ReadFile(log),
                AllOf(HasSubstr("Detached: job 12 goes on."),
                      HasSubstr("qctl watch 12 --dir " + dir.path()),
                      HasSubstr("qctl jobs cancel 12 --dir " + dir.path())));
    EXPECT_THAT(fake.received().cancels, IsEmpty());
  }
}

}  // namespace
}  // namespace qsweep::qctl
