#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::sim {
namespace {

constexpr absl::Duration kSafetyPhase = absl::Minutes(8);

// A device that can run the model of two layers, not that of three, which has
// the larger vocabulary.
constexpr uint64_t kSmallMemory = 10'000;
constexpr uint32_t kLargeVocabulary = 512;

void EnlargeVocabulary(v1::ModelDescription& model) {
  for (v1::TensorDescription& tensor : *model.mutable_tensors()) {
    if (tensor.layer() < 0 && tensor.shape_size() == 2) {
      tensor.set_shape(0, kLargeVocabulary);
    }
  }
  model.set_vocabulary_size(kLargeVocabulary);
}

Settings SimulationSettings(uint64_t seed) {
  Settings settings;
  settings.max_rows_per_task = 4;
  // The larger half of the jobs is planned in slices.
  settings.plan_at_once_tasks = 40;
  settings.plan_slice_tasks = 6;
  settings.drop_slice_tasks = 4;
  settings.audit_rate = seed % 3 == 0 ? 0.1 : 0;
  settings.audit_seed = seed;
  return settings;
}

}  // namespace

World::World(const SeedOptions& options)
    : options_(options),
      random_(options.seed),
      trace_(schedule_, options.trace),
      network_(schedule_, random_, counts_),
      settings_(SimulationSettings(options.seed)),
      oracles_(schedule_, settings_, counts_),
      coordinator_(schedule_, network_, random_, counts_, trace_, oracles_,
                   settings_),
      chaos_(schedule_, network_, random_, counts_, trace_, coordinator_,
             workers_, clone_, clients_),
      units_(std::max(2, options.tasks / 10)) {
  const auto worker = [this](const SimulatedWorker::Options& o) {
    return std::make_unique<SimulatedWorker>(o, schedule_, network_, random_,
                                             counts_, trace_, oracles_,
                                             coordinator_);
  };
  for (int i = 1; i <= options.workers; ++i) {
    SimulatedWorker::Options o{
        .node = i, .name = absl::StrCat("w", i), .poison = options.faults};
    if (i == 1 && options.faults) {
      o.evaluations = {"aligned@1"};
    }
    if (i == 3 && options.faults) {
      o.methods = {"rtn"};
    }
    if (i == 4 && options.faults) {
      o.memory_bytes = kSmallMemory;
    }
    o.wrong_results = i == 2;
    o.device = i % 2 == 0 ? "cuda:0 Tesla T4" : "";
    workers_.push_back(worker(o));
  }
  clone_ = worker({.node = options.workers + 1, .name = "clone"});
  clone_->set_keeps_running(false);
  Node node = options.workers + 2;
  for (const char* owner : {"ann", "bob", "cleo", "dan"}) {
    clients_.push_back(std::make_unique<SimulatedClient>(
        node++, owner, schedule_, network_, random_, counts_, trace_, oracles_,
        coordinator_));
  }
}

SeedResult World::Run() {
  network_.set_faulty(false);
  coordinator_.Start();
  AddCorpus();
  AddTokens();
  network_.set_faulty(options_.faults);
  for (const auto& worker : workers_) {
    worker->set_faulty(options_.faults);
    schedule_.After(
        absl::Milliseconds(static_cast<int64_t>(random_.Below(20'000))),
        [w = worker.get()] { w->Start(); });
  }
  SubmitJobs();
  if (options_.faults) {
    chaos_.Start();
  }
  PreemptSome();
  RunUntil(schedule_.now() + kSafetyPhase, true);
  CalmDown();
  RunUntil(schedule_.now() + LivenessBound(), true);
  const std::string unsettled = Unsettled();
  if (!oracles_.failed() && !unsettled.empty()) {
    oracles_.Fail(0, absl::StrCat("not everything has ended ",
                                  absl::FormatDuration(LivenessBound()),
                                  " after the last fault: ", unsettled));
  }
  if (!oracles_.failed()) {
    SubmitAgain();
  }
  if (!oracles_.failed()) {
    CheckEnd();
  }
  return {.problems = oracles_.problems(),
          .counts = std::move(counts_),
          .events = events_,
          .virtual_time = schedule_.now().since_boot() - absl::Seconds(1000),
          .below_floor = floor_clock_.longest()};
}

void World::AddCorpus() {
  const CorpusData data = testing::SmallCorpus(units_);
  const Node node = options_.workers + 2;
  int answers = 0;
  for (size_t i = 0; i < data.artifacts.size(); ++i) {
    coordinator_.PutArtifact(
        node,
        *Digest::FromBytes(
            data.corpus.languages(static_cast<int>(i)).artifact_digest()),
        data.artifacts[i], [&answers](const auto& r) {
          QSWEEP_CHECK(r.ok());
          ++answers;
        });
  }
  while (answers < static_cast<int>(data.artifacts.size())) {
    schedule_.RunNext();
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = data.corpus;
  coordinator_.Call<v1::AddCorpusResponse>(node, request,
                                           [&answers](const auto& r) {
                                             QSWEEP_CHECK(r.ok());
                                             answers = 0;
                                           });
  while (answers > 0) {
    schedule_.RunNext();
  }
}

void World::AddTokens() {
  constexpr int kTokens = 3;
  const Node node = options_.workers + 2;
  for (size_t i = 1; i < workers_.size(); i += 2) {
    std::vector<AccessTokenText> tokens;
    for (int n = 0; n < kTokens; ++n) {
      const Secret secret =
          *Secret::FromHex(Digest::Of(absl::StrCat(i, " ", n)).hex());
      v1::CreateTokenRequest request;
      request.set_secret_sha256(secret.digest().bytes());
      request.set_kind(v1::TOKEN_KIND_ACCESS);
      request.set_role(v1::ROLE_WORKER);
      request.set_name(workers_[i]->name());
      bool answered = false;
      coordinator_.Call<v1::CreateTokenResponse>(
          node, request, [&](const auto& r) {
            QSWEEP_CHECK(r.ok());
            answered = true;
            tokens.push_back(
                {TokenId(static_cast<int64_t>(r->token().token_id())), secret});
          });
      while (!answered) {
        schedule_.RunNext();
      }
    }
    workers_[i]->set_tokens(std::move(tokens));
  }
}

// A job at a time until there are enough tasks, most of them before the last
// are done.
void World::SubmitJobs() {
  if (AllSubmitted()) {
    return;
  }
  v1::SubmitJobRequest job = NextJob();
  submitted_[job.job_uuid()] = job;
  clients_[random_.Below(clients_.size())]->Submit(std::move(job));
  schedule_.After(
      absl::Milliseconds(static_cast<int64_t>(random_.Below(25'000))),
      [this] { SubmitJobs(); });
}

v1::SubmitJobRequest World::NextJob() {
  const uint64_t kind = random_.Below(6);
  v1::SubmitJobRequest request = testing::SweepRequest(
      {.uuid = absl::StrCat(++jobs_),
       .layers = kind < 3 ? 2 : 3,
       .layer_range = kind == 0 ? "0" : "all",
       .reuse = kind == 1 || jobs_ > 6 ? v1::REUSE_NEVER : v1::REUSE_AUTO});
  if (kind >= 3) {
    EnlargeVocabulary(*request.mutable_models(0));
  }
  oracles_.OnModel(request.models(0));
  if (random_.Below(3) == 0) {
    request.mutable_spec()->mutable_evals(0)->set_eval("hf-text");
  }
  if (random_.Below(4) == 0) {
    v1::JobSpec& spec = *request.mutable_spec();
    spec.set_quantizers(0, "gptq:group=4");
    spec.mutable_calibration()->set_corpus(spec.corpus());
    spec.mutable_calibration()->add_seeds(0);
    spec.mutable_calibration()->set_samples(2);
  }
  v1::JobPolicy& policy = *request.mutable_spec()->mutable_policy();
  if (options_.faults && random_.Below(6) == 0) {
    policy.set_priority(1);
  }
  if (options_.faults && random_.Below(6) == 0) {
    counts_.faults.Add("job for some workers only");
    policy.mutable_require()->add_gpus("T4");
  }
  if (options_.faults && random_.Below(4) == 0) {
    policy.set_queue_timeout_ms(5'000 + random_.Below(40'000));
  }
  return request;
}

bool World::AllSubmitted() const {
  int64_t planned = 0;
  for (const auto& client : clients_) {
    planned += client->tasks_planned();
  }
  return planned >= options_.tasks;
}

std::string World::Unsettled() const {
  if (!AllSubmitted()) {
    return "jobs to submit";
  }
  if (!coordinator_.up()) {
    return "no coordinator";
  }
  const auto& jobs = coordinator_.state().active_jobs();
  if (!jobs.empty()) {
    const Job& job = coordinator_.state().job(*jobs.begin());
    std::string text = absl::StrCat("job ", job.number.value(), " is ",
                                    v1::JobState_Name(job.state));
    for (const auto& [id, brings] : job.tasks) {
      const Task& task = coordinator_.state().task(id);
      if (task.live()) {
        absl::StrAppend(&text, ", task ", id.value(), " ",
                        v1::TaskState_Name(task.state));
      }
    }
    return text;
  }
  for (const auto& client : clients_) {
    if (!client->settled()) {
      return absl::StrCat(client->owner(), " waits for an answer");
    }
  }
  for (const auto& worker : workers_) {
    if (worker->keeps_running() && !worker->spool_empty()) {
      return absl::StrCat(worker->name(), " has results to bring");
    }
  }
  return "";
}

// Of everything that may come after one another: a frozen worker, a dead
// coordinator, leases it has to honour, the longest back-off, then all tasks on
// one worker, thrice.
absl::Duration World::LivenessBound() const {
  return absl::Seconds(300) + settings_.failover_ttl + settings_.lease_ttl +
         settings_.backoff_max + options_.tasks * absl::Seconds(20);
}

void World::RunUntil(SteadyTime limit, bool stop_when_settled) {
  while (schedule_.now() < limit && !oracles_.failed() && !schedule_.empty()) {
    schedule_.RunNext();
    if (!options_.faults && coordinator_.up()) {
      floor_clock_.Look(coordinator_.state(), schedule_.now());
    }
    if (++events_ % 64 == 0 && stop_when_settled && Unsettled().empty()) {
      return;
    }
  }
}

void World::PreemptSome() {
  for (int i = 0; i < options_.preempted; ++i) {
    SimulatedWorker* worker = workers_[static_cast<size_t>(i)].get();
    worker->set_keeps_running(false);
    const bool announced = random_.Below(2) == 0;
    schedule_.After(absl::Seconds(30) + absl::Milliseconds(static_cast<int64_t>(
                                            random_.Below(30'000))),
                    [worker, announced] {
                      announced ? worker->Shutdown() : worker->Kill(true);
                    });
  }
}

void World::CalmDown() {
  trace_.Line("no more faults");
  chaos_.Stop();
  network_.set_faulty(false);
  network_.Heal();
  coordinator_.disk().ClearFaults();
  coordinator_.disk().set_capacity(int64_t{1} << 40);
  coordinator_.set_sync_time(absl::Milliseconds(1));
  if (coordinator_.up()) {
    coordinator_.store().ClearFaults();
  }
  clone_->Kill(false);
  Operate();
  for (const auto& worker : workers_) {
    worker->set_faulty(false);
    if (!worker->up() && worker->keeps_running()) {
      worker->Start();
    }
  }
}

// What a person does about paused jobs and workers that are kept apart.
void World::Operate() {
  if (coordinator_.up()) {
    for (const auto& [uuid, worker] : coordinator_.state().workers()) {
      if (worker.mode != WorkerMode::kOpen) {
        clients_.front()->ControlWorker(uuid, v1::WORKER_ACTION_RESUME);
      }
    }
    for (const JobNumber number : coordinator_.state().active_jobs()) {
      if (coordinator_.state().job(number).state == v1::JOB_STATE_PAUSED) {
        clients_.front()->ControlJob(number, v1::JOB_ACTION_RESUME);
      }
    }
  }
  schedule_.After(absl::Seconds(15), [this] { Operate(); });
}

}  // namespace qsweep::sim
