// Access from end to end, with the real programs: certificates, a join token, a
// worker and a reader who join with it, and what a revocation does to them.
#include <fstream>
#include <memory>
#include <optional>
#include <signal.h>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/wait.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kBinaries[] = QSWEEP_BINARY_DIR "/bin/";
constexpr char kEngine[] = QSWEEP_BINARY_DIR "/tests/fake_qengine";
constexpr absl::Duration kPatience = absl::Seconds(60);

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Outcome {
  int code = -1;
  std::string text;  // stdout and stderr
};

class AccessEndToEnd : public ::testing::Test {
 protected:
  std::unique_ptr<ChildProcess> Start(std::vector<std::string> argv,
                                      const std::string& log) {
    argv[0] = kBinaries + argv[0];
    return ChildProcess::Start(
        {.argv = std::move(argv),
         .environment = {{"XDG_CONFIG_HOME", dir_ / "config"},
                         {"QCTL_DIR", dir_ / "c"}},
         .log_path = dir_ / log});
  }
  Outcome Run(const std::vector<std::string>& argv) {
    const std::string log = absl::StrCat("run-", ++runs_);
    const std::optional<int> status = Start(argv, log)->Wait(kPatience);
    return {.code = status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1,
            .text = ReadFile(dir_ / log)};
  }
  void Serve() {
    coordinator_ = Start({"qcoordinator", "serve", "--dir", dir_ / "c",
                          "--listen", "127.0.0.1:0", "--tls", "--heartbeat",
                          "250ms", "--lease-ttl", "3s", "--failover-ttl", "6s"},
                         "coordinator.log");
    ASSERT_TRUE(AwaitTrue(kPatience, [&] {
      return ReadFile(dir_ / "c/server").ends_with("\ntls\n");
    })) << ReadFile(dir_ / "coordinator.log");
    std::ifstream file(dir_ / "c/server");
    std::getline(file, address_);
  }
  std::string CreateToken(const std::string& role) {
    const Outcome made =
        Run({"qctl", "tokens", "create", "--role", role, "-o", "csv",
             "--columns", "text", "--no-header", "--quiet"});
    EXPECT_EQ(made.code, 0) << made.text;
    return std::string(absl::StripAsciiWhitespace(made.text));
  }
  void StartWorker(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {"qworker", "--dir", dir_ / "w", "--engine", kEngine});
    worker_ = Start(std::move(flags), "worker.log");
  }
  void AwaitLive() {
    ASSERT_TRUE(AwaitTrue(kPatience, [&] {
      const Outcome workers = Run({"qctl", "workers", "-o", "csv", "--columns",
                                   "state", "--no-header"});
      return workers.text == "live\n";
    })) << ReadFile(dir_ / "worker.log");
  }

  TempDir dir_;
  int runs_ = 0;
  std::string address_;
  std::unique_ptr<ChildProcess> coordinator_;
  std::unique_ptr<ChildProcess> worker_;
};

TEST_F(AccessEndToEnd, ExplainsTheCoordinatorsCommandLine) {
  const Outcome help = Run({"qcoordinator", "--help"});
  EXPECT_EQ(help.code, 0);
  const std::string example = "  qcoordinator serve --dir .qsweep\n";
  const size_t found = help.text.find(example);
  ASSERT_NE(found, std::string::npos) << help.text;
  EXPECT_EQ(help.text.find(example, found + 1), std::string::npos) << help.text;
  EXPECT_THAT(Run({"qcoordinator", "serve", "--help"}).text,
              HasSubstr(example));
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"qcoordinator"},
        {"qcoordinator", "serve", "--dri", "x"},
        {"qcoordinator", "serve", "--dir", "x", "--audit-rate", "7"}}) {
    const Outcome refused = Run(wrong);
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.text, StartsWith("error[QS1060]: "));
    EXPECT_THAT(refused.text, HasSubstr("hint: see qcoordinator --help"));
  }
  EXPECT_THAT(Run({"qcoordinator", "restore", "--help"}).text,
              AllOf(HasSubstr("  qcoordinator restore --dir .qsweep"),
                    Not(HasSubstr("qcoordinator serve"))));
}

TEST_F(AccessEndToEnd, ExplainsTheWorkersCommandLine) {
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"qworker"},
        {"qworker", "--dir", "x", "--threads", "many"}}) {
    const Outcome refused = Run(wrong);
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.text, StartsWith("error[QS1060]: "));
    EXPECT_THAT(refused.text, HasSubstr("hint: see qworker --help"));
  }
  EXPECT_THAT(Run({"qworker", "--help"}).text,
              AllOf(HasSubstr("--control"), Not(HasSubstr("protocol-max"))));
}

TEST_F(AccessEndToEnd, LetsAWorkerIn_UntilItsTokenIsRevoked) {
  const Outcome made = Run({"qcoordinator", "init", "--dir", dir_ / "c"});
  EXPECT_EQ(made.code, 0);
  EXPECT_THAT(made.text, AllOf(StartsWith("made"), HasSubstr("next:  ")));
  const Outcome kept = Run({"qcoordinator", "init", "--dir", dir_ / "c"});
  EXPECT_THAT(kept.text, StartsWith("kept"));
  Serve();

  const std::string token = CreateToken("worker");
  ASSERT_THAT(token, StartsWith("qsw-join-"));
  StartWorker({"--coordinator", address_, "--join", token});
  AwaitLive();
  EXPECT_EQ(ReadFile(dir_ / "w/credential").find(token), std::string::npos);

  // It has joined: neither address nor token is needed again, and the used
  // token does no harm.
  worker_->Signal(SIGTERM);
  ASSERT_TRUE(worker_->Wait(kPatience).has_value());
  StartWorker({"--coordinator", address_, "--join", token});
  AwaitLive();
  worker_->Signal(SIGTERM);
  ASSERT_TRUE(worker_->Wait(kPatience).has_value());
  StartWorker({});
  AwaitLive();

  EXPECT_EQ(Run({"qctl", "tokens", "revoke", "2"}).code, 0);
  const std::optional<int> status = worker_->Wait(kPatience);
  ASSERT_TRUE(status.has_value()) << ReadFile(dir_ / "worker.log");
  EXPECT_EQ(WEXITSTATUS(*status), 4);
  EXPECT_THAT(ReadFile(dir_ / "worker.log"), HasSubstr("error[QS6005]"));
}

TEST_F(AccessEndToEnd, LetsAReaderLogIn_ToRead) {
  ASSERT_EQ(Run({"qcoordinator", "init", "--dir", dir_ / "c"}).code, 0);
  Serve();
  const std::string token = CreateToken("read");
  const Outcome login = Run({"qctl", "login", address_, "--token", token});
  EXPECT_EQ(login.code, 0) << login.text;
  EXPECT_EQ(Run({"qctl", "jobs", "--server", address_}).code, 0);
  const Outcome refused = Run({"qctl", "tokens", "--server", address_});
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.text, HasSubstr("error[QS6002]: role read may not"));
  const Outcome again = Run(
      {"qctl", "login", address_, "--token",
       token.substr(0, token.size() - 1) + (token.back() == '0' ? "1" : "0")});
  EXPECT_EQ(again.code, 4);
  EXPECT_THAT(again.text, HasSubstr("error[QS6001]"));
}

}  // namespace
}  // namespace qsweep::testing
