// Whole command lines against a coordinator in this process.

#include "coordinator/qctl/qctl.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include <sys/stat.h>

#include "common/base/error_codes.h"
#include "common/base/error_json.h"
#include "common/base/ids.h"
#include "common/job/model_description_json.h"
#include "coordinator/qctl/help.h"
#include "tests/coordinator/qctl/outcome.h"
#include "tests/coordinator/qctl/output/sample_results.h"
#include "tests/support/fake_coordinator.h"
#include "tests/support/model_descriptions.h"
#include "tests/support/temp_dir.h"

namespace qsweep::qctl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Outcome;
using ::testing::StartsWith;
using Json = nlohmann::json;

constexpr char kUuid[] = "7f3a91c2-0d53-4f0e-8a55-2f6f0c1b7a10";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

// A job that is done.
v1::JobSummary DoneJob() {
  v1::JobSummary job;
  job.set_job_uuid(JobUuid::FromText(kUuid)->bytes());
  job.set_job_number(12);
  job.set_name("first-sweep");
  job.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  job.set_state(v1::JOB_STATE_SUCCEEDED);
  job.set_owner("ada");
  job.set_created_at_us(1'790'000'000'000'000);
  job.set_finished_at_us(1'790'000'060'000'000);
  job.set_tasks_total(2);
  job.set_tasks_done(2);
  job.set_measurements_total(24);
  job.set_measurements_done(24);
  job.set_measurements_reused(8);
  (*job.mutable_labels())["paper"] = "acl27";
  return job;
}

class QctlTest : public ::testing::Test {
 protected:
  QctlTest() {
    std::filesystem::create_directory(dir_ + "/bin");
    environment_.variables = {{"HOME", dir_}, {"QCTL_DIR", dir_}};
    environment_.working_dir = dir_;
    environment_.binary_dir = dir_ + "/bin";
  }

  // A program in place of qengine that prints `text` and exits with `code`.
  void InstallEngine(const std::string& out, const std::string& err, int code) {
    WriteFile(dir_ + "/engine.out", out);
    WriteFile(dir_ + "/engine.err", err);
    const std::string path = dir_ + "/bin/qengine";
    WriteFile(path, absl::StrCat("#!/bin/sh\ncd ", dir_,
                                 "\nif [ $1 = tokenize ]; then\n"
                                 "  cat > lines; cat tokens; exit\nfi\n"
                                 "cat engine.out\ncat engine.err >&2\nexit ",
                                 code, "\n"));
    chmod(path.c_str(), 0755);
  }
  void InstallEngine() {
    std::filesystem::create_directory(dir_ + "/model");
    InstallEngine(
        FormatModelDescriptionJson(testing::LlamaDescription("tiny", {})), "",
        0);
  }

  void Serve() {
    fake_ = std::make_unique<testing::FakeCoordinator>(dir_);
    fake_->script().after_events = DoneJob();
  }

  Outcome Run(const std::vector<std::string>& args,
              const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out;
    std::ostringstream err;
    environment_.in = &in;
    environment_.out = &out;
    environment_.err = &err;
    Outcome outcome;
    outcome.code = RunQctl(args, environment_);
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  std::vector<std::string> SubmitArgs() const {
    return {"submit",      "layer-sweep", "--model",     "model",
            "--corpus",    "udhr",        "--reference", "eng",
            "--languages", "eng,arb",     "--quantizer", "rtn:bits=4,group=64"};
  }
  std::vector<std::string> PendingFiles() const {
    std::vector<std::string> files;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(
             dir_ + "/.local/state/qsweep/submits", error)) {
      files.push_back(entry.path().string());
    }
    return files;
  }

  const testing::TempDir temp_;
  const std::string dir_ = temp_.path();
  Environment environment_;
  std::unique_ptr<testing::FakeCoordinator> fake_;
};

TEST_F(QctlTest, LeadsHelpWithExamples) {
  for (const Command& command : AllCommands()) {
    SCOPED_TRACE(command.name());
    std::vector<std::string> args = command.path;
    args.emplace_back("--help");
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.err, IsEmpty());
    EXPECT_LT(outcome.out.find("\nExamples\n  qctl "),
              outcome.out.find("\nUsage\n"));
  }
}

TEST_F(QctlTest, CorrectsTyposOfCommands) {
  struct Case {
    std::vector<std::string> args;
    const char* meant;
  };
  for (const Case& c :
       {Case{{"sumbit"}, "submit"}, Case{{"jbos", "list"}, "jobs"},
        Case{{"jobs", "lst"}, "list"}, Case{{"workres"}, "workers"},
        Case{{"submit", "layer-swep"}, "layer-sweep"}}) {
    const Outcome outcome = Run(c.args);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err,
                AllOf(StartsWith("error[QS1060]: "),
                      HasSubstr(absl::StrCat("\"", c.meant, "\""))));
  }
}

TEST_F(QctlTest, CorrectsTyposOfFlags) {
  const Outcome outcome = Run({"jobs", "list", "--outptu", "json"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("Did you mean \"--output\"?"));
}

TEST_F(QctlTest, RefusesWhatItDoesNotTake) {
  EXPECT_EQ(Run({"jobs", "show"}).code, 2);
  EXPECT_EQ(Run({"jobs", "show", "1", "2"}).code, 2);
  EXPECT_EQ(Run({"jobs", "list", "--limit"}).code, 2);
  EXPECT_EQ(Run({"jobs", "list", "--limit", "0"}).code, 2);
  EXPECT_EQ(Run({"jobs", "list", "--state", "done"}).code, 2);
  EXPECT_EQ(Run({"jobs", "list", "-o", "xml"}).code, 2);
  EXPECT_EQ(Run({"wait", "last", "--timeout", "soon"}).code, 2);
  EXPECT_EQ(Run({"wait", "last", "--for", "finished"}).code, 2);
  EXPECT_EQ(Run({"--dir"}).code, 2);
}

TEST_F(QctlTest, AcceptsShortNounsAndFlagsAnywhere) {
  Serve();
  fake_->script().jobs = {DoneJob()};
  const std::string want = Run({"jobs", "list", "-o", "name"}).out;
  EXPECT_EQ(want, absl::StrCat("job/", kUuid, "\n"));
  EXPECT_EQ(Run({"jobs", "-o", "name"}).out, want);
  EXPECT_EQ(Run({"j", "ls", "--output=name"}).out, want);
  EXPECT_EQ(Run({"-o", "name", "job", "list"}).out, want);
  EXPECT_EQ(Run({"jobs", "-o", "name", "list", "--dir", dir_}).out, want);
}

TEST_F(QctlTest, SaysHowToStart_WhenNobodyServes) {
  const Outcome outcome = Run({"status"});
  EXPECT_EQ(outcome.code, 6);
  EXPECT_THAT(outcome.err,
              AllOf(StartsWith("error[QS4001]: "), HasSubstr("qctl up")));
  WriteFile(dir_ + "/server", absl::StrCat("unix:", dir_, "/gone.sock\n"));
  EXPECT_EQ(Run({"status"}).code, 6);
  EXPECT_EQ(Run({"jobs", "--server", "unix:"}).code, 2);
}

TEST_F(QctlTest, TellsInStatusWhatTheCoordinatorWarnsOf) {
  Serve();
  const Outcome outcome = Run({"status", "-o", "json"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(Json::parse(outcome.out)["items"][0]["wal_bytes"], 1024);
  EXPECT_THAT(outcome.err, HasSubstr("the log is long"));
}

TEST_F(QctlTest, ReportsErrorsAsJson_WhenAskedForJson) {
  const Outcome outcome = Run({"status", "-o", "json"});
  EXPECT_THAT(outcome.out, IsEmpty());
  const Json error = Json::parse(outcome.err);
  EXPECT_EQ(error["kind"], "Error");
  EXPECT_EQ(error["code"], "QS4001");
  EXPECT_EQ(error["exit"], 6);
  EXPECT_EQ(Json::parse(Run({"jbos", "-o", "json"}).err)["exit"], 2);
}

TEST_F(QctlTest, PrefersFlagsToTheEnvironment) {
  Serve();
  environment_.variables["QCTL_DIR"] = "/nowhere";
  EXPECT_EQ(Run({"status"}).code, 6);
  EXPECT_EQ(Run({"status", "--dir", dir_}).code, 0);
  environment_.variables["QCTL_SERVER"] = absl::StrCat("unix:", dir_, "/.sock");
  EXPECT_EQ(Run({"status"}).code, 0);
  EXPECT_EQ(Run({"status", "--dir", "/nowhere"}).code, 6);
}

TEST_F(QctlTest, MatchesTheGoldenJson) {
  Serve();
  fake_->script().jobs = {DoneJob()};
  v1::TaskSummary task;
  task.set_task_id(3);
  task.set_state(v1::TASK_STATE_LEASED);
  task.set_phase(v1::TASK_PHASE_RUN);
  task.set_model("tiny");
  task.set_configurations(4);
  task.set_documents(6);
  task.set_languages("arb,eng");
  task.set_worker("worker-1");
  task.set_epoch(2);
  task.set_lost(1);
  task.set_fraction(0.5);
  task.set_estimated_seconds(30);
  fake_->script().tasks = {task};
  v1::WorkerSummary worker;
  worker.set_worker_uuid(JobUuid::FromText(kUuid)->bytes());
  worker.set_name("worker-1");
  worker.set_state("live");
  worker.add_devices()->set_name("cpu, 2 threads");
  worker.add_held(3);
  worker.set_up_ms(61'000);
  fake_->script().workers = {worker};
  v1::QueryResponse& query = fake_->script().query;
  query.add_columns("lang");
  query.add_columns("dnll");
  v1::QueryRow& row = *query.add_rows();
  row.add_values()->set_text("eng");
  row.add_values()->set_real(0.25);
  query.add_rows()->add_values()->set_integer(1);
  query.mutable_rows(1)->add_values();  // NULL
  struct Case {
    const char* file;
    std::vector<std::string> args;
  };
  for (const Case& c : {Case{"jobs_list", {"jobs", "list"}},
                        Case{"jobs_show", {"jobs", "show", "12"}},
                        Case{"tasks_list", {"tasks", "list"}},
                        Case{"workers_list", {"workers", "list"}},
                        Case{"query", {"query", "SELECT 1"}},
                        Case{"docs", {"docs", "QS4001"}}}) {
    SCOPED_TRACE(c.file);
    std::vector<std::string> args = c.args;
    args.insert(args.end(), {"-o", "json"});
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::string name = absl::StrCat("golden/qctl/", c.file, ".json");
    const std::string golden = QSWEEP_SOURCE_DIR "/tests/" + name;
    if (ReadFile(golden) != outcome.out) {
      std::filesystem::create_directories(QSWEEP_BINARY_DIR "/golden/qctl");
      WriteFile(QSWEEP_BINARY_DIR "/" + name, outcome.out);
      ADD_FAILURE() << "differs from " << golden << "; see "
                    << QSWEEP_BINARY_DIR "/" << name << "\n"
                    << outcome.out;
    }
  }
}

TEST_F(QctlTest, NamesAPositionalAsTheUserKnowsIt) {
  const Outcome outcome = Run({"tasks", "explain", "abc"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("   at TASK\n"));
  EXPECT_THAT(Run({"jobs", "list", "--limit", "abc"}).err,
              HasSubstr("   at --limit\n"));
}

TEST_F(QctlTest, TellsTheTasksOfAWorkerApart) {
  Serve();
  v1::WorkerSummary worker;
  worker.set_worker_uuid(JobUuid::FromText(kUuid)->bytes());
  worker.set_name("w");
  worker.add_held(7);
  worker.add_held(396);
  fake_->script().workers = {worker};
  EXPECT_THAT(Run({"workers", "list"}).out, HasSubstr("7, 396"));
  EXPECT_THAT(Run({"workers", "list", "-o", "csv"}).out,
              HasSubstr("\"7,396\""));
}

TEST_F(QctlTest, CancelsRangesOfJobs) {
  Serve();
  v1::JobSummary other = DoneJob();
  other.set_job_number(11);
  fake_->script().jobs = {other, DoneJob()};
  const Outcome outcome =
      Run({"jobs", "cancel", "11-12", "--reason", "wrong corpus"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(fake_->received().cancels.size(), 2U);
  EXPECT_EQ(fake_->received().cancels[1].job().text(), "12");
  EXPECT_EQ(fake_->received().cancels[1].reason(), "wrong corpus");
  EXPECT_EQ(Run({"jobs", "cancel", "9-3"}).code, 2);
  EXPECT_EQ(Run({"jobs", "cancel", "99"}).code, 3);
}

TEST_F(QctlTest, SubmitsWithAnIdOfItsOwn_AndForgetsItAfterTheAnswer) {
  Serve();
  InstallEngine();
  std::vector<std::string> args = SubmitArgs();
  args.insert(args.end(), {"-o", "name"});
  const Outcome outcome = Run(args);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(fake_->received().submits.size(), 1U);
  const v1::SubmitJobRequest& request = fake_->received().submits[0];
  EXPECT_EQ(outcome.out,
            absl::StrCat("job/", JobUuid::FromBytes(request.job_uuid())->text(),
                         "\n"));
  EXPECT_EQ(request.spec().models(0).path(), dir_ + "/model");
  EXPECT_EQ(request.models(0).layers(), 2U);
  EXPECT_THAT(request.spec().languages(), ElementsAre("eng", "arb"));
  EXPECT_THAT(PendingFiles(), IsEmpty());
}

TEST_F(QctlTest, UsesTheSameId_WhenTheLastAnswerWasLost) {
  Serve();
  InstallEngine();
  fake_->script().submit_error = absl::UnavailableError("cut");
  const Outcome lost = Run(SubmitArgs());
  EXPECT_EQ(lost.code, 6);
  EXPECT_THAT(lost.err, HasSubstr("may be queued or not"));
  EXPECT_EQ(PendingFiles().size(), 1U);
  fake_->script().submit_error = absl::OkStatus();
  const Outcome again = Run(SubmitArgs());
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("is used again"));
  const auto& submits = fake_->received().submits;
  EXPECT_EQ(submits[0].job_uuid(), submits[1].job_uuid());
  EXPECT_THAT(PendingFiles(), IsEmpty());
  EXPECT_EQ(Run(SubmitArgs()).code, 0);
  EXPECT_NE(submits[1].job_uuid(), submits[2].job_uuid());
}

TEST_F(QctlTest, ForgetsTheId_WhenTheSpecIsRefused) {
  Serve();
  InstallEngine();
  fake_->script().submit_error =
      MakeError(kUnknownLanguage, "no language \"xx\"", "languages[0]");
  const Outcome outcome = Run(SubmitArgs());
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("at languages[0]"));
  EXPECT_THAT(PendingFiles(), IsEmpty());
}

TEST_F(QctlTest, TakesTheIdOfTheUser) {
  Serve();
  InstallEngine();
  std::vector<std::string> args = SubmitArgs();
  args.insert(args.end(), {"--job-id", kUuid, "-o", "name"});
  EXPECT_EQ(Run(args).out, absl::StrCat("job/", kUuid, "\n"));
  args[args.size() - 3] = "12345";
  EXPECT_EQ(Run(args).code, 2);
}

// What a token is depends on the model: tasks are sized by its tokenizer.
TEST_F(QctlTest, SendsHowTheModelCutsEachLanguage) {
  Serve();
  InstallEngine();
  for (const auto& [language, text] :
       {std::pair("arb", "\u0643\u0644\n\u0643\u0644"),
        std::pair("eng", "all of them"), std::pair("zxx", "")}) {
    v1::TextSample& sample = *fake_->script().samples.add_samples();
    sample.set_language(language);
    sample.set_text(text);
  }
  WriteFile(dir_ + "/tokens", "4 5 6\n17 2000\n\n");
  ASSERT_EQ(Run(SubmitArgs()).code, 0);
  const v1::SampleTextsRequest& asked = fake_->received().samples.at(0);
  EXPECT_EQ(asked.corpus(), "udhr");
  EXPECT_EQ(asked.reference(), "eng");
  EXPECT_THAT(asked.languages(), ElementsAre("eng", "arb"));
  EXPECT_EQ(ReadFile(dir_ + "/lines"),
            "\u0643\u0644 \u0643\u0644\nall of them\n\n");
  const v1::SubmitJobRequest& sent = fake_->received().submits.at(0);
  ASSERT_EQ(sent.token_rates_size(), 2);
  EXPECT_EQ(sent.token_rates(0).language(), "arb");
  EXPECT_DOUBLE_EQ(sent.token_rates(0).bytes_per_token(), 3);
  EXPECT_EQ(sent.token_rates(1).language(), "eng");
  EXPECT_DOUBLE_EQ(sent.token_rates(1).bytes_per_token(), 5.5);

  // Without them a job is submitted all the same.
  std::filesystem::remove(dir_ + "/tokens");
  ASSERT_EQ(Run(SubmitArgs()).code, 0);
  EXPECT_EQ(fake_->received().submits.at(1).token_rates_size(), 0);
}

TEST_F(QctlTest, QueuesNothing_OnADryRun) {
  Serve();
  InstallEngine();
  std::vector<std::string> args = SubmitArgs();
  args.emplace_back("--dry-run");
  const Outcome outcome = Run(args);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(fake_->received().submits.at(0).dry_run());
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("24 = 4 x 6 documents in 2 languages; 8 are "
                              "there already"),
                    HasSubstr("3 documents dropped")));
  EXPECT_THAT(PendingFiles(), IsEmpty());
}

TEST_F(QctlTest, NamesTheField_WhenTheSpecIsWrong) {
  Serve();
  InstallEngine();
  WriteFile(dir_ + "/spec.yaml",
            "apiVersion: qctl/v1\nkind: LayerSweep\nmodel: {path: model}\n"
            "quantizers: [\"rtn:bits=4\"]\ncorpus: udhr\nlaguages: [eng]\n");
  const Outcome unknown = Run({"submit", "-f", "spec.yaml"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("QS1001"), HasSubstr("laguages"),
                                 HasSubstr("languages")));
  std::vector<std::string> args = SubmitArgs();
  args.back() = "rtn:bits=77";
  const Outcome bits = Run(args);
  EXPECT_EQ(bits.code, 2);
  EXPECT_THAT(bits.err, AllOf(HasSubstr("QS1042"), HasSubstr("quantizers[0]")));
  EXPECT_EQ(Run({"submit", "-f", "missing.yaml"}).code, 2);
  EXPECT_EQ(Run({"submit"}).code, 2);
  EXPECT_TRUE(fake_->received().submits.empty());
}

TEST_F(QctlTest, ReadsASpecFromStdin_WithChanges) {
  Serve();
  InstallEngine();
  const Outcome outcome =
      Run({"submit", "-f", "-", "--set", "languages=[eng, rus]"},
          "apiVersion: qctl/v1\nkind: LayerSweep\nmodel: {path: ./model}\n"
          "quantizers: [\"rtn:bits=4\"]\ncorpus: udhr\nlanguages: [eng]\n"
          "reference: eng\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(fake_->received().submits.at(0).spec().languages(),
              ElementsAre("eng", "rus"));
}

TEST_F(QctlTest, RefusesMmlu) {
  const Outcome outcome = Run({"submit", "mmlu", "--model", "m"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("QS1053"));
}

TEST_F(QctlTest, PassesOnWhatTheEngineSaysOfAModel) {
  Serve();
  std::filesystem::create_directory(dir_ + "/model");
  const Outcome missing = Run(SubmitArgs());
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("QS5001"));
  InstallEngine("",
                "a line of the log\n" +
                    FormatErrorAsJson(MakeError(kTruncatedModel, "too short",
                                                "m.gguf", "fetch it again")),
                1);
  const Outcome truncated = Run(SubmitArgs());
  EXPECT_EQ(truncated.code, 1);
  EXPECT_THAT(truncated.err,
              AllOf(HasSubstr("error[QS3002]: too short"), HasSubstr("m.gguf"),
                    HasSubstr("fetch it again")));
}

TEST_F(QctlTest, LooksAtTheReadyCheckpointOfAQuantizer) {
  Serve();
  InstallEngine();
  std::vector<std::string> args = SubmitArgs();
  args.back() = "checkpoint:path=packed";
  const Outcome outcome = Run(args);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const v1::JobSpec& spec = fake_->received().submits[0].spec();
  // As the engine describes it.
  const std::string digest =
      testing::LlamaDescription("tiny", {}).digest.hex().substr(0, 16);
  EXPECT_EQ(spec.quantizers(0),
            absl::StrCat("checkpoint:path=", dir_, "/packed,digest=", digest,
                         ",bits=16"));
  args.back() = "checkpoint:path=~/packed";
  EXPECT_EQ(Run(args).code, 0);
  EXPECT_EQ(fake_->received().submits[1].spec().quantizers(0),
            spec.quantizers(0));
  args.back() = "checkpoint:path=packed,digest=0123456789abcdef,bits=4";
  const Outcome other = Run(args);
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("QS3010"));
}

TEST_F(QctlTest, ExplainsHubIds) {
  Serve();
  InstallEngine();
  std::vector<std::string> args = SubmitArgs();
  args[3] = "Qwen/Qwen2.5-1.5B";
  const Outcome outcome = Run(args);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("QS3001"), HasSubstr("download")));
}

TEST_F(QctlTest, ExitsAsTheJobEnded_WhenItWaited) {
  struct Case {
    const char* name;
    v1::JobState state;
    uint64_t failed;
    uint64_t skipped;
    int code;
  };
  Serve();
  for (const Case& c : {Case{"succeeded", v1::JOB_STATE_SUCCEEDED, 0, 0, 0},
                        Case{"skipped", v1::JOB_STATE_SUCCEEDED, 0, 3, 7},
                        Case{"failed tasks", v1::JOB_STATE_FAILED, 1, 0, 7},
                        Case{"failed", v1::JOB_STATE_FAILED, 0, 0, 1},
                        Case{"cancelled", v1::JOB_STATE_CANCELLED, 0, 0, 8}}) {
    SCOPED_TRACE(c.name);
    v1::JobSummary running = DoneJob();
    running.set_state(v1::JOB_STATE_RUNNING);
    fake_->script().jobs = {running};
    v1::JobSummary ended = DoneJob();
    ended.set_state(c.state);
    ended.set_tasks_failed(c.failed);
    ended.set_documents_skipped(c.skipped);
    fake_->script().after_events = ended;
    v1::WatchEvent event;
    event.mutable_durable()->set_seq(5);
    event.mutable_durable()->set_kind("job_ended");
    fake_->script().events = {event};
    EXPECT_EQ(Run({"wait", "last"}).code, c.code);
    EXPECT_EQ(Run({"watch", "12"}).code, c.code);
  }
}

TEST_F(QctlTest, ExitsWith124_WhenTheTimeIsUp) {
  Serve();
  v1::JobSummary running = DoneJob();
  running.set_state(v1::JOB_STATE_RUNNING);
  fake_->script().jobs = {running};
  fake_->script().watch_until_cancelled = true;
  const Outcome outcome = Run({"wait", "12", "--timeout", "0.1"});
  EXPECT_EQ(outcome.code, 124);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("QS4044"), HasSubstr("it goes on")));
}

TEST_F(QctlTest, StopsWaitingForSuccess_OnceATaskFailed) {
  Serve();
  v1::JobSummary running = DoneJob();
  running.set_state(v1::JOB_STATE_RUNNING);
  running.set_tasks_failed(1);
  fake_->script().jobs = {running};
  fake_->script().watch_until_cancelled = true;
  EXPECT_EQ(Run({"wait", "12", "--for", "succeeded", "--timeout", "60"}).code,
            7);
}

TEST_F(QctlTest, WatchesInLines_WhenThereIsNoTerminal) {
  Serve();
  v1::JobSummary running = DoneJob();
  running.set_state(v1::JOB_STATE_RUNNING);
  running.set_measurements_done(8);
  fake_->script().jobs = {running};
  v1::WatchEvent progress;
  v1::TaskProgressFrame& frame = *progress.mutable_progress();
  frame.set_task_id(3);
  frame.set_epoch(1);
  frame.add_layer_sets("none");
  v1::PartialMetric& metric = *frame.mutable_progress()->add_partial();
  metric.set_language("eng");
  metric.set_nll_sum(30);
  metric.set_nll_fp_sum(20);
  metric.set_tokens(8);
  v1::WatchEvent done;
  done.mutable_durable()->set_seq(9);
  done.mutable_durable()->set_kind("job_succeeded");
  fake_->script().events = {progress, done};
  const Outcome outcome = Run({"watch", "12"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("job 12 \"first-sweep\" running"),
                    HasSubstr("none         +1.250"), HasSubstr("succeeded"),
                    Not(HasSubstr("\x1b"))));
  EXPECT_THAT(outcome.err, HasSubstr("24 of 24 measured"));
}

TEST_F(QctlTest, ExportsRowsWithTheDocumentedHeader) {
  Serve();
  fake_->script().jobs = {DoneJob()};
  v1::MeasurementRow row;
  row.set_model("aa");
  row.set_configuration("bb");
  row.set_layer_set("L0+L9");
  row.set_quantizer("rtn:bits=4,group=64");
  row.set_compute("fp32");
  row.set_evaluation("aligned@1;tok=cc");
  row.set_corpus("udhr");
  row.set_language("eng");
  row.set_document("1");
  row.set_document_digest("dd");
  v1::Measurement& values = *row.mutable_values();
  values.set_status(v1::ROW_STATUS_OK);
  values.set_nll_sum(0.1);
  values.set_nll_fp_sum(1e-7);
  values.set_unigram_nll_sum(3);
  values.set_tokens(4);
  values.set_bytes(5);
  values.set_bytes_scored(6);
  values.set_chars(7);
  values.set_kl_sum(0.30000000000000004);
  values.set_top1(2);
  row.set_engine("e");
  row.set_device("cpu");
  row.set_task_id(3);
  row.set_epoch(1);
  row.set_worker("worker-1");
  row.set_created_at_us(1'790'000'000'250'000);
  v1::MeasurementRow skipped = row;
  skipped.mutable_values()->set_status(v1::ROW_STATUS_ONE_TOKEN);
  fake_->script().rows = {row, skipped};
  const Outcome outcome = Run({"export", "12", "--format", "csv"});
  EXPECT_EQ(
      outcome.out,
      "model,configuration,layer_set,quantizer,compute,evaluation,corpus,"
      "language,document,document_digest,status,nll_sum,nll_fp_sum,"
      "unigram_nll_sum,tokens,bytes,bytes_scored,chars,kl_sum,top1,nonfinite,"
      "engine,device,task,epoch,worker,created_at\n"
      "aa,bb,L0+L9,\"rtn:bits=4,group=64\",fp32,aligned@1;tok=cc,udhr,eng,1,dd,"
      "ok,0.1,1e-07,3,4,5,6,7,0.30000000000000004,2,0,e,cpu,3,1,worker-1,"
      "2026-09-21T14:13:20.250Z\n"
      "aa,bb,L0+L9,\"rtn:bits=4,group=64\",fp32,aligned@1;tok=cc,udhr,eng,1,dd,"
      "one_token,,,,,5,,7,,,,e,cpu,3,1,worker-1,2026-09-21T14:13:20.250Z\n");
  const Outcome file =
      Run({"export", "12", "--format", "jsonl", "--to", "rows.jsonl"});
  EXPECT_EQ(file.code, 0) << file.err;
  EXPECT_THAT(file.out, IsEmpty());
  std::istringstream lines(ReadFile(dir_ + "/rows.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(Json::parse(line)["kl_sum"], 0.30000000000000004);
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_TRUE(Json::parse(line)["nll_sum"].is_null());
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/rows.jsonl.part"));
  EXPECT_EQ(Run({"export", "99"}).code, 3);
  EXPECT_EQ(Run({"export", "12", "--to", "/nowhere/rows.csv"}).code, 1);
}

TEST_F(QctlTest, UploadsACorpus) {
  Serve();
  WriteFile(dir_ + "/texts.json",
            "{\"eng\": [\"one\", \"two\"], \"heb\": [\"\u05d0\", \"\u05d1\"]}");
  const Outcome outcome = Run({"corpora", "add", "mine", "texts.json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(fake_->received().artifacts.size(), 2U);
  EXPECT_THAT(outcome.err, HasSubstr("2 of 2 languages uploaded"));
  EXPECT_EQ(fake_->received().corpora.at(0).name(), "mine");
  EXPECT_THAT(Run({"corpora", "list", "-o", "csv"}).out,
              HasSubstr(",2,4,10,,\"eng,heb\"\n"));
  EXPECT_EQ(Run({"corpora", "add", "mine", "missing.json"}).code, 2);
  EXPECT_THAT(Run({"corpora", "add", "mine", "texts.json"}).err,
              HasSubstr("0 of 2 languages uploaded"));
}

TEST_F(QctlTest, SuggestsEnglishAsReference_WhenTheCorpusHasIt) {
  Serve();
  WriteFile(dir_ + "/with.json",
            "{\"arb\": \"x\", \"eng\": \"y\", \"fra\": \"z\"}");
  EXPECT_THAT(Run({"corpora", "add", "with", "with.json"}).err,
              HasSubstr("--reference eng "));
  WriteFile(dir_ + "/without.json", "{\"fra\": \"z\", \"arb\": \"x\"}");
  EXPECT_THAT(Run({"corpora", "add", "without", "without.json"}).err,
              HasSubstr("--reference arb "));
}

TEST_F(QctlTest, ShowsResultsAsAsked) {
  Serve();
  fake_->script().results = SampleResults();
  EXPECT_THAT(Run({"results", "12"}).out, HasSubstr("RANK  PROTECT"));
  EXPECT_THAT(Run({"results", "12", "--by", "layer"}).out,
              HasSubstr("not told from the average layer: L1, L2"));
  EXPECT_THAT(Run({"results", "12", "--by", "language"}).out,
              HasSubstr("TO RESOLVE THE GAP"));
  const std::string summary =
      Run({"results", "12", "--summary", "--unit", "article"}).out;
  EXPECT_THAT(summary, HasSubstr("What this sample cannot say"));
  EXPECT_THAT(summary, HasSubstr("BITS PER ARTICLE"));
  EXPECT_THAT(summary, HasSubstr("qctl results 12 --by layer"));
  EXPECT_EQ(Json::parse(Run({"results", "12", "-o", "json"}).out)["kind"],
            "Results");
  EXPECT_THAT(
      Run({"results", "12", "--pivot", "gap_bits_per_unit", "-o", "csv"}).out,
      HasSubstr("SmolLM2-135M,none,,15.6,21.3,"));
  EXPECT_THAT(Run({"results", "12", "--pivot", "speed"}).err,
              HasSubstr("QS1004"));
  EXPECT_THAT(Run({"results", "12", "-o", "csv"}).out,
              HasSubstr(",recovery,true,0.18,"));
}

TEST_F(QctlTest, DrawsResultsInTheTerminalAndAsFiles) {
  Serve();
  fake_->script().results = SampleResults();
  EXPECT_THAT(Run({"plot", "heatmap", "12", "--term"}).out, HasSubstr("+███"));
  EXPECT_EQ(Run({"plot", "heatmap", "12", "--out", "map.svg"}).code, 0);
  EXPECT_THAT(ReadFile(dir_ + "/map.svg"),
              AllOf(StartsWith("<svg "), HasSubstr("qctl plot heatmap 12")));
  EXPECT_EQ(Run({"plot", "criticality", "12", "--out", "layers.svg"}).code, 0);
  EXPECT_THAT(ReadFile(dir_ + "/layers.svg"), HasSubstr("class=\"whisker\""));
  EXPECT_THAT(Run({"plot", "pie", "12"}).err,
              HasSubstr("heatmap or criticality"));
  EXPECT_EQ(Run({"plot", "heatmap", "12", "--out", "/nowhere/a.svg"}).code, 1);
  fake_->script().results.clear_panels();
  EXPECT_THAT(Run({"plot", "heatmap", "12", "--out", "none.svg"}).err,
              HasSubstr("nothing to draw"));
}

TEST_F(QctlTest, WritesAReportWithItsRows) {
  Serve();
  fake_->script().results = SampleResults();
  const Outcome outcome = Run({"report", "12", "--unit", "article"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("report.html"));
  EXPECT_THAT(ReadFile(dir_ + "/report.html"),
              AllOf(HasSubstr("<!doctype html>"), HasSubstr("28 articles"),
                    HasSubstr("data:text/csv;base64,")));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/report.html.part"));
}

TEST_F(QctlTest, ExplainsErrorCodesOffline) {
  EXPECT_THAT(Run({"docs", "qs4001"}).out,
              HasSubstr("The coordinator does not answer."));
  const Outcome outcome = Run({"docs", "QS0000"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("QS1061"));
  EXPECT_EQ(Run({"help", "selector"}).code, 3);
}

TEST(CliReference, IsTheDocumentedOne) {
  const std::string path = QSWEEP_SOURCE_DIR "/docs/reference/cli.md";
  if (ReadFile(path) != CliReference()) {
    WriteFile(QSWEEP_BINARY_DIR "/cli.md", CliReference());
    FAIL() << path << " differs from the help; copy " << QSWEEP_BINARY_DIR
           << "/cli.md over it";
  }
}

}  // namespace
}  // namespace qsweep::qctl
