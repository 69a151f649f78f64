#include "tests/e2e/kill_rounds.h"

#include <algorithm>
#include <signal.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

constexpr char kEngine[] = QSWEEP_BINARY_DIR "/tests/fake_qengine";
constexpr int kWorkers = 8;
constexpr int kClients = 2;
constexpr int kCorpora = 12;
constexpr int kUnits = 4;
constexpr int kLayers = 6;
// A fiftieth of the defaults.
constexpr absl::Duration kHeartbeat = absl::Milliseconds(200);
constexpr absl::Duration kLeaseTtl = absl::Milliseconds(1200);
constexpr absl::Duration kFailoverTtl = absl::Milliseconds(2400);
constexpr absl::Duration kProgressDeadline = absl::Milliseconds(2400);
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kLeaveTime = absl::Seconds(20);

void Wait(absl::Duration time) {
  AwaitTrue(time, [] { return false; });
}

absl::Duration Between(Random& random, int from_ms, int to_ms) {
  return absl::Milliseconds(
      from_ms +
      static_cast<int>(random.Below(static_cast<uint64_t>(to_ms - from_ms))));
}

std::map<std::string, std::vector<std::string>> Texts(int corpus) {
  std::map<std::string, std::vector<std::string>> texts;
  for (const char* language : {"deu", "eng", "fra"}) {
    for (int unit = 0; unit < kUnits; ++unit) {
      texts[language].push_back(absl::StrCat("Article ", unit, " of corpus ",
                                             corpus, " in ", language, "."));
    }
  }
  return texts;
}

const char* Text(KillFault::Target target) {
  switch (target) {
    case KillFault::Target::kCoordinator:
      return "coordinator";
    case KillFault::Target::kWorker:
      return "worker";
    case KillFault::Target::kEngine:
      return "engine";
  }
  return "";
}

const char* Text(KillFault::Signal signal) {
  switch (signal) {
    case KillFault::Signal::kKill:
      return "SIGKILL";
    case KillFault::Signal::kTerminate:
      return "SIGTERM";
    case KillFault::Signal::kStop:
      return "SIGSTOP";
  }
  return "";
}

int Number(KillFault::Signal signal) {
  switch (signal) {
    case KillFault::Signal::kKill:
      return SIGKILL;
    case KillFault::Signal::kTerminate:
      return SIGTERM;
    case KillFault::Signal::kStop:
      return SIGSTOP;
  }
  return SIGKILL;
}

}  // namespace

std::string KillFaultText(const KillFault& fault) {
  return absl::StrCat(Text(fault.signal), " ", Text(fault.target),
                      fault.target == KillFault::Target::kCoordinator
                          ? ""
                          : absl::StrCat(" ", fault.worker),
                      " after ", absl::FormatDuration(fault.after),
                      ", made good after ", absl::FormatDuration(fault.hold));
}

std::vector<KillFault> ChooseFaults(Random& random, int num_workers,
                                    bool gentle) {
  std::vector<KillFault> faults(gentle ? 1 : 2 + random.Below(3));
  for (KillFault& fault : faults) {
    const uint64_t target = gentle ? 2 + random.Below(6) : random.Below(8);
    fault.target = target < 2   ? KillFault::Target::kCoordinator
                   : target < 6 ? KillFault::Target::kWorker
                                : KillFault::Target::kEngine;
    const uint64_t signal = random.Below(3);
    fault.signal = signal == 0   ? KillFault::Signal::kKill
                   : signal == 1 ? KillFault::Signal::kTerminate
                                 : KillFault::Signal::kStop;
    fault.worker =
        static_cast<int>(random.Below(static_cast<uint64_t>(num_workers)));
    fault.after = Between(random, 0, 600);
    // A stop is longer than a lease.
    fault.hold = fault.signal == KillFault::Signal::kStop
                     ? Between(random, 1300, 1900)
                     : Between(random, 0, 500);
  }
  return faults;
}

KillRounds::KillRounds(const Options& options)
    : options_(options), faults_(options.seed) {
  model_.Write("model", "the fake engine only looks for it");
  LocalCluster::Options cluster;
  cluster.engine = kEngine;
  cluster.task_seconds = 1e-6;  // so small that each document is a task
  cluster.heartbeat = kHeartbeat;
  cluster.lease_ttl = kLeaseTtl;
  cluster.failover_ttl = kFailoverTtl;
  cluster.progress_deadline = kProgressDeadline;
  cluster.worker_environment = {
      {"QSWEEP_FAKE_DELAY_MS",
       absl::StrCat(absl::ToInt64Milliseconds(options.task_time))}};
  cluster.worker_flags = {"--drain-deadline", "400ms"};
  cluster_ = std::make_unique<LocalCluster>(cluster);
}

KillRounds::~KillRounds() {
  clients_.clear();
  recorder_.reset();
}

std::string KillRounds::Name(int worker) const {
  return absl::StrCat("w", worker);
}

// The clients ask for the same measurements, one of them for fewer languages,
// so that tasks are shared and rows reused.
v1::SubmitJobRequest KillRounds::MakeJob(int client, int index) {
  constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
  v1::SubmitJobRequest request;
  request.set_job_uuid(
      Digest::Of(absl::StrCat(options_.seed, " ", client, " ", index))
          .bytes()
          .substr(0, 16));
  request.set_owner(absl::StrCat("user", client));
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec.set_name(absl::StrCat("job-", client, "-", index));
  spec.add_models()->set_path(model_ / "model");
  const int method = index / kCorpora;
  spec.add_quantizers(absl::StrCat("rtn:bits=", kBits[method % 6],
                                   ",group=", 8 << (method / 6 % 4)));
  // Once all of these are measured, as another evaluation: a job that has
  // nothing to measure is no load.
  v1::EvaluationRequest& evaluation = *spec.add_evals();
  evaluation.set_eval("aligned");
  evaluation.set_max_tokens(static_cast<uint32_t>(1000 + method / 24));
  spec.set_corpus(absl::StrCat("corpus", index % kCorpora));
  spec.set_reference("eng");
  if (client == 1) {
    spec.add_languages("deu");
    spec.add_languages("eng");
  }
  *request.add_models() =
      ToProto(LlamaDescription("fake", {.layers = kLayers, .hidden = 64}));
  return request;
}

void KillRounds::Start() {
  ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
  for (int corpus = 0; corpus < kCorpora; ++corpus) {
    cluster_->AddCorpus(absl::StrCat("corpus", corpus), Texts(corpus));
  }
  for (int worker = 0; worker < kWorkers; ++worker) {
    cluster_->StartWorker(Name(worker), 1);
  }
  recorder_ = std::make_unique<RecordingWorker>(cluster_->endpoint(),
                                                kHeartbeat, options_.task_time,
                                                options_.seed, ledger_);
  ASSERT_NO_FATAL_FAILURE(cluster_->AwaitWorkers(kWorkers + 1));
  for (int client = 0; client < kClients; ++client) {
    clients_.push_back(std::make_unique<SweepClient>(
        cluster_->endpoint(),
        [this, client](int index) { return MakeJob(client, index); }, ledger_));
  }
}

ChildProcess& KillRounds::ProcessOf(const KillFault& fault) {
  return fault.target == KillFault::Target::kCoordinator
             ? cluster_->coordinator()
             : cluster_->worker(Name(fault.worker));
}

pid_t KillRounds::Strike(const KillFault& fault) {
  ledger_.Count(absl::StrCat(Text(fault.signal), " of a ", Text(fault.target)));
  if (fault.target == KillFault::Target::kEngine) {
    ++engine_strikes_;
    cluster_->SignalEngine(Name(fault.worker), Number(fault.signal));
  } else {
    ProcessOf(fault).Signal(Number(fault.signal));
  }
  return ProcessOf(fault).pid();
}

void KillRounds::MakeGood(const KillFault& fault, pid_t struck) {
  ChildProcess& process = ProcessOf(fault);
  if (process.pid() != struck) {
    return;  // another fault ended it, and that was made good
  }
  if (fault.target == KillFault::Target::kEngine) {
    // One that ended is started again by its worker.
    cluster_->SignalEngine(Name(fault.worker), SIGCONT);
    return;
  }
  process.Signal(SIGCONT);
  if (fault.signal == KillFault::Signal::kStop) {
    return;
  }
  ASSERT_TRUE(process.Wait(kLeaveTime).has_value())
      << "it does not end: " << KillFaultText(fault) << cluster_->Logs();
  if (fault.target == KillFault::Target::kCoordinator) {
    ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
  } else {
    cluster_->StartWorker(Name(fault.worker), 1);
  }
}

void KillRounds::RunRound(bool check) {
  ++rounds_;
  const std::vector<KillFault> faults =
      ChooseFaults(faults_, kWorkers, options_.gentle);
  const std::string trace = absl::StrCat(
      "seed ", options_.seed, ", round ", rounds_, ": ",
      absl::StrJoin(faults, "; ", [](std::string* out, const KillFault& fault) {
        absl::StrAppend(out, KillFaultText(fault));
      }));
  SCOPED_TRACE(trace);
  struct Step {
    absl::Duration at;
    size_t fault;
    bool strikes;
  };
  std::vector<Step> steps;
  for (size_t i = 0; i < faults.size(); ++i) {
    steps.push_back({faults[i].after, i, true});
    steps.push_back({faults[i].after + faults[i].hold, i, false});
  }
  std::ranges::stable_sort(steps, {}, &Step::at);
  std::vector<pid_t> struck(faults.size());
  const SteadyTime began = Clock::Real().SteadyNow();
  for (const Step& step : steps) {
    Wait(began + step.at - Clock::Real().SteadyNow());
    if (step.strikes) {
      struck[step.fault] = Strike(faults[step.fault]);
    } else {
      ASSERT_NO_FATAL_FAILURE(MakeGood(faults[step.fault], struck[step.fault]));
    }
  }
  for (int worker = 0; worker < kWorkers; ++worker) {
    EXPECT_TRUE(cluster_->worker(Name(worker)).running())
        << Name(worker) << " ended by itself" << cluster_->Logs();
  }
  if (check) {
    CheckOracles();
  }
}

void KillRounds::CheckOracles() {
  // It answers: the writer has opened the file and recovered it.
  ASSERT_TRUE(AwaitTrue(kPatience, [this] {
    return cluster_->client().GetStatus({}).ok();
  })) << cluster_->Logs();
  const std::vector<std::string> violations = FindViolations(
      cluster_->coordinator_dir() + "/coordinator.db", ledger_.acknowledged());
  EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
  const std::vector<std::string> problems = ledger_.problems();
  EXPECT_TRUE(problems.empty()) << absl::StrJoin(problems, "\n");
}

void KillRounds::Finish() {
  SCOPED_TRACE(absl::StrCat("seed ", options_.seed, ", after the faults"));
  for (const auto& client : clients_) {
    client->Stop();
  }
  ASSERT_TRUE(AwaitTrue(
      kPatience,
      [this] { return std::ranges::all_of(clients_, &SweepClient::finished); }))
      << Report() << Unfinished() << cluster_->Logs();
  ASSERT_NO_FATAL_FAILURE(CheckOracles());
  EXPECT_EQ(cluster_->QueryInteger("SELECT count(*) FROM jobs_v1 WHERE state "
                                   "<> 'succeeded'"),
            0);
  EXPECT_EQ(cluster_->QueryInteger("SELECT count(*) FROM events_v1 WHERE kind "
                                   "= 'determinism_alarm'"),
            0);
}

// Each task that has not ended, and what the coordinator says of it.
std::string KillRounds::Unfinished() {
  v1::ListTasksRequest live;
  for (const v1::TaskState state :
       {v1::TASK_STATE_READY, v1::TASK_STATE_LEASED, v1::TASK_STATE_BACKOFF}) {
    live.add_states(state);
  }
  const auto tasks = cluster_->client().ListTasks(live);
  if (!tasks.ok()) {
    return absl::StrCat(tasks.status().ToString(), "\n");
  }
  std::string text;
  for (const v1::TaskSummary& task : tasks->tasks()) {
    absl::StrAppend(&text, task.ShortDebugString(), "\n");
    v1::ExplainTaskRequest request;
    request.set_task_id(task.task_id());
    const auto explained = cluster_->client().ExplainTask(request);
    if (explained.ok()) {
      absl::StrAppend(&text, explained->ShortDebugString(), "\n");
    }
  }
  return text;
}

std::string KillRounds::Report() const {
  std::string text =
      absl::StrCat("seed ", options_.seed, ", ", rounds_, " rounds\n");
  int jobs = 0;
  for (const auto& client : clients_) {
    jobs += client->jobs();
  }
  absl::StrAppend(&text, "  jobs that succeeded: ", jobs, "\n");
  for (const auto& [what, count] : ledger_.counts()) {
    absl::StrAppend(&text, "  ", what, ": ", count, "\n");
  }
  return text;
}

}  // namespace qsweep::testing
