// Command lines against a coordinator that has measured a small sweep.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/private_file.h"
#include "common/base/token_text.h"
#include "common/rpc/channel.h"
#include "common/rpc/coordinator_client.h"
#include "coordinator/qctl/qctl.h"
#include "coordinator/service/server.h"
#include "coordinator/store/analysis_cache.h"
#include "tests/coordinator/qctl/outcome.h"
#include "tests/support/error_matchers.h"
#include "tests/support/fake_worker.h"
#include "tests/support/sweep_requests.h"
#include "tests/support/temp_dir.h"

namespace qsweep::qctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Outcome;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

class RealCoordinatorTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(); }

  void Start() {
    ServerOptions options;
    options.directory = dir_.path();
    options.listen = {absl::StrCat("unix:", dir_.path(), "/.sock"),
                      "127.0.0.1:0"};
    auto server = Server::Start(options, Clock::Real());
    QSWEEP_ASSERT_OK(server);
    server_ = *std::move(server);
    endpoint_ = *ParseEndpoint(server_->addresses().front());
    client_ = std::make_unique<CoordinatorClient>(endpoint_);
  }

  // Measures a whole sweep; the job is number 1.
  void Sweep(int units, int layers) {
    const CorpusData data = testing::SmallCorpus(units);
    for (const std::string& bytes : data.artifacts) {
      QSWEEP_ASSERT_OK(client_->PutArtifact(bytes));
    }
    v1::AddCorpusRequest add;
    *add.mutable_corpus() = data.corpus;
    QSWEEP_ASSERT_OK(client_->AddCorpus(add));
    QSWEEP_ASSERT_OK(
        client_->SubmitJob(testing::SweepRequest({.layers = layers})));
    testing::FakeWorker worker(endpoint_, "box");
    worker.Attach();
    v1::GetJobRequest request;
    request.mutable_job()->set_text("1");
    while (client_->GetJob(request)->summary().state() !=
           v1::JOB_STATE_SUCCEEDED) {
      const v1::DesiredLease lease = worker.AwaitLease();
      ASSERT_NE(lease.task_id(), 0u);
      QSWEEP_ASSERT_OK(worker.Commit(lease));
    }
  }

  Outcome Run(const std::vector<std::string>& args) {
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    Environment environment;
    environment.variables = {{"QCTL_SERVER", server_->addresses().front()},
                             {"HOME", dir_.path()}};
    environment.working_dir = dir_.path();
    environment.in = &in;
    environment.out = &out;
    environment.err = &err;
    const int code = RunQctl(args, environment);
    return {code, out.str(), err.str()};
  }

  const testing::TempDir dir_;
  std::unique_ptr<Server> server_;
  Endpoint endpoint_;
  std::unique_ptr<CoordinatorClient> client_;
};

TEST_F(RealCoordinatorTest, RunsEveryExampleQuery) {
  Sweep(6, 3);
  EXPECT_EQ(Run({"tokens", "create", "--role", "read", "--direct"}).code, 0);
  const Outcome examples = Run({"query", "--examples", "-o", "jsonl"});
  EXPECT_EQ(examples.code, 0) << examples.err;
  int count = 0;
  for (const absl::string_view line :
       absl::StrSplit(examples.out, '\n', absl::SkipEmpty())) {
    const std::string sql = Json::parse(std::string(line)).at("sql");
    const Outcome answer = Run({"query", sql, "-o", "csv"});
    EXPECT_EQ(answer.code, 0) << sql << "\n" << answer.err;
    ++count;
    // All but the one about tasks that were tried again have something to say.
    if (sql.find("epoch > 1") == std::string::npos) {
      EXPECT_GT(std::count(answer.out.begin(), answer.out.end(), '\n'), 1)
          << sql;
    }
  }
  EXPECT_GE(count, 5);
  const Outcome views = Run({"query", "--tables", "-o", "name"});
  EXPECT_THAT(views.out, AllOf(HasSubstr("job_measurements_v1\n"),
                               HasSubstr("results_v1\n")));
}

constexpr char kCountResults[] =
    "SELECT count(*) > 0 AS there FROM results_v1 WHERE job = 1 AND "
    "metric = 'recovery'";

TEST_F(RealCoordinatorTest, HasResultsInTheViewRightAfterWait) {
  Sweep(6, 3);
  const Outcome waited = Run({"wait", "1"});
  EXPECT_EQ(waited.code, 0) << waited.err;
  const Outcome answer =
      Run({"query", kCountResults, "-o", "csv", "--no-header"});
  EXPECT_EQ(answer.code, 0) << answer.err;
  EXPECT_EQ(answer.out, "1\n");
}

TEST_F(RealCoordinatorTest, ComputesResultsAgain_WhenTheCacheIsGone) {
  Sweep(6, 3);
  QSWEEP_ASSERT_OK(server_->Stop());
  server_.reset();
  for (const char* suffix : {"", "-wal", "-shm"}) {
    std::filesystem::remove(dir_.path() + "/analysis.db" + suffix);
  }
  Start();
  EXPECT_EQ(Run({"query", kCountResults, "-o", "csv", "--no-header"}).out,
            "1\n");
}

TEST_F(RealCoordinatorTest, DropsTheResultsOfDeletedJobs) {
  Sweep(6, 3);
  EXPECT_EQ(Run({"wait", "1"}).code, 0);
  // The same sweep again, which has nothing to run.
  QSWEEP_ASSERT_OK(
      client_->SubmitJob(testing::SweepRequest({.uuid = "b", .layers = 3})));
  EXPECT_EQ(Run({"wait", "2"}).code, 0);
  EXPECT_EQ(Run({"results", "2"}).code, 0);
  const auto saved = [this] {
    QSWEEP_CHECK(server_->Stop().ok());
    server_.reset();
    const auto cache = AnalysisCache::Open(AnalysisCache::Path(dir_.path()));
    QSWEEP_CHECK(cache.ok());
    const std::vector<JobNumber> jobs = *(*cache)->Jobs();
    Start();
    return jobs;
  };
  EXPECT_THAT(saved(), UnorderedElementsAre(JobNumber(1), JobNumber(2)));
  const auto collect = [this](std::vector<std::string> flags) {
    std::vector<std::string> args = {"admin", "gc", "--older-than",
                                     "0s",    "-o", "json"};
    args.insert(args.end(), flags.begin(), flags.end());
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return Json::parse(outcome.out)["items"][0];
  };
  EXPECT_THAT(Run({"admin", "gc", "--older-than", "0s", "--dry-run"}).err,
              HasSubstr("The newest job is kept"));
  const Json counted = collect({"--dry-run"});
  EXPECT_EQ(counted["results_freed_bytes"], 0);
  EXPECT_EQ(counted["workers"], 0);
  EXPECT_THAT(saved(), UnorderedElementsAre(JobNumber(1), JobNumber(2)));
  const Json deleted = collect({});
  EXPECT_GT(deleted["results_freed_bytes"], 0);
  EXPECT_GT(deleted["results_bytes"], 0);
  EXPECT_EQ(counted["results_bytes"].get<int64_t>(),
            deleted["results_bytes"].get<int64_t>() +
                deleted["results_freed_bytes"].get<int64_t>());
  EXPECT_THAT(saved(), UnorderedElementsAre(JobNumber(2)));
}

// Each of these would keep a reader thread busy for a long time, and there are
// four: were they not stopped, nobody else could be served.
TEST_F(RealCoordinatorTest, StopsComputing_WhenNobodyWaitsAnyMore) {
  Sweep(30, 24);
  for (int i = 0; i < 4; ++i) {
    const Outcome late =
        Run({"results", "1", "--resamples", "1000000", "--timeout", "0.05"});
    EXPECT_EQ(late.code, 124);
    EXPECT_THAT(late.err, AllOf(HasSubstr("error[QS4046]: no results within "),
                                HasSubstr("--timeout 10m")));
  }
  EXPECT_EQ(Run({"query", "SELECT 1 AS one", "-o", "name"}).out, "1\n");
}

TEST_F(RealCoordinatorTest, RotatesItsOwnToken_AlsoAfterALostAnswer) {
  const std::vector<std::string> text_only = {"-o", "csv", "--columns", "text",
                                              "--no-header"};
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.end(), text_only.begin(), text_only.end());
    return Run(args);
  };
  const Outcome made = run({"tokens", "create", "--role", "admin", "--direct"});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string file = dir_ / "admin-token";
  QSWEEP_ASSERT_OK(WritePrivateFile(file, made.out));
  // The secret that a first try left behind; its answer got lost.
  const Secret secret = Secret::Make();
  const std::string token =
      FormatToken(AccessTokenText{.id = TokenId(1), .secret = secret});
  QSWEEP_ASSERT_OK(WritePrivateFile(file + ".new", token));
  v1::RotateTokenRequest request;
  request.set_token_id(1);
  request.set_secret_sha256(secret.digest().bytes());
  QSWEEP_ASSERT_OK(client_->RotateToken(request));
  const std::string& tcp = server_->addresses()[1];
  const Outcome again = run({"admin", "rotate-token", "1", "--server", tcp,
                             "--token-file", file, "--to", file});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(**ReadPrivateFile(file), token + "\n");
  EXPECT_FALSE(std::filesystem::exists(file + ".new"));

  // Printed: kept in the state folder only until then.
  const Outcome printed = run(
      {"admin", "rotate-token", "1", "--server", tcp, "--token-file", file});
  EXPECT_EQ(printed.code, 0) << printed.err;
  EXPECT_TRUE(
      std::filesystem::is_empty(dir_ / ".local/state/qsweep/rotations"));
  QSWEEP_ASSERT_OK(WritePrivateFile(file, printed.out));
  EXPECT_EQ(Run({"tokens", "list", "--server", tcp, "--token-file", file}).code,
            0);
  const Outcome revoked = Run({"tokens", "revoke", "1"});
  EXPECT_EQ(revoked.code, 0) << revoked.err;
  const Outcome refused = Run({"admin", "rotate-token", "1"});
  EXPECT_THAT(refused.err, HasSubstr("error[QS6005]"));
  EXPECT_NE(refused.code, 0);
}

// A kill while the secret was shown: were it given again, a rotation because
// somebody saw it would change nothing.
TEST_F(RealCoordinatorTest,
       GivesNoSecretThatWasShown_WhenARotationIsTriedAgain) {
  const Outcome made = Run({"tokens", "create", "--role", "admin", "--direct",
                            "-o", "csv", "--columns", "text", "--no-header"});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string file = dir_ / "admin-token";
  QSWEEP_ASSERT_OK(WritePrivateFile(file, made.out));
  const auto text_of = [](const Secret& secret) {
    return FormatToken(AccessTokenText{.id = TokenId(1), .secret = secret});
  };
  const auto rotate_to = [this](const Secret& secret) {
    v1::RotateTokenRequest request;
    request.set_token_id(1);
    request.set_secret_sha256(secret.digest().bytes());
    QSWEEP_ASSERT_OK(client_->RotateToken(request));
  };
  const std::string& tcp = server_->addresses()[1];
  const std::vector<std::string> rotate = {
      "admin",        "rotate-token", "1",    "--server", tcp,
      "--token-file", file,           "--to", file};
  const Secret shown = Secret::Make();
  rotate_to(shown);
  QSWEEP_ASSERT_OK(
      WritePrivateFile(file + ".new", text_of(shown) + " shown\n"));
  const Outcome again = Run(rotate);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(**ReadPrivateFile(file), text_of(shown) + "\n");
  EXPECT_EQ(Run({"tokens", "list", "--server", tcp, "--token-file", file}).code,
            0);

  // The answer to the try after it got lost: nobody saw that secret.
  const Secret unseen = Secret::Make();
  for (const Secret& now : {shown, unseen}) {
    rotate_to(now);
    QSWEEP_ASSERT_OK(WritePrivateFile(
        file + ".new",
        absl::StrCat(text_of(shown), " shown\n", text_of(unseen), "\n")));
    QSWEEP_ASSERT_OK(WritePrivateFile(file, text_of(Secret::Make())));
    const Outcome after = Run(rotate);
    EXPECT_EQ(after.code, 0) << after.err;
    EXPECT_EQ(**ReadPrivateFile(file), text_of(unseen) + "\n");
    EXPECT_FALSE(std::filesystem::exists(file + ".new"));
  }
}

TEST_F(RealCoordinatorTest, ShowsStoredRowsInEveryColumn_WhenWatchingLate) {
  Sweep(6, 3);
  const Outcome watched = Run({"watch", "1"});
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_THAT(watched.out, AllOf(HasSubstr("PROTECT         eng      swh\n"),
                                 HasSubstr("none         +0.150   +0.150\n"),
                                 HasSubstr("L2           +0.150   +0.150\n"),
                                 Not(HasSubstr(" .\n"))));
  EXPECT_THAT(watched.err, Not(IsEmpty()));
}

}  // namespace
}  // namespace qsweep::qctl
