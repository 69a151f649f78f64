// What the engine of a simulated worker does with a task.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/rpc/failure.h"
#include "tests/sim/simulated_worker.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::sim {
namespace {

// A function of what is measured: a poison task is one on every machine.
uint64_t HashOf(const v1::TaskSpec& task) {
  uint64_t hash = 0;
  for (int i = 0; i < 8; ++i) {
    hash = hash << 8 | static_cast<unsigned char>(
                           task.content_key()[static_cast<size_t>(i)]);
  }
  return hash;
}

// The same on every machine: of all rows of one document in twelve, as the
// model's context says, and of one row in fifty.
bool IsTooLong(const v1::TaskSpec& task, const v1::Measurement& row) {
  const std::string& document =
      task.documents(static_cast<int>(row.document_index())).digest();
  const std::string& configuration =
      task.configurations(static_cast<int>(row.configuration_index())).digest();
  const auto drawn = [&](absl::string_view of, int one_in) {
    const Digest digest =
        Digest::Of(absl::StrCat(of, task.evaluation(), document));
    return static_cast<unsigned char>(digest.bytes()[0]) % one_in == 0;
  };
  return drawn(task.model_digest(), 12) || drawn(configuration, 50);
}

}  // namespace

SimulatedWorker::Fate SimulatedWorker::FateOf(const v1::TaskSpec& task) {
  if (!options_.poison) {
    return Fate::kFinishes;
  }
  const uint64_t hash = HashOf(task) % 400;
  if (hash == 0) {
    counts_.faults.Add("poison task refused");
    return Fate::kRefused;
  }
  if (hash == 1) {
    counts_.faults.Add("poison task kills its engine");
    return Fate::kCrashes;
  }
  if (hash == 2 && faulty_) {
    counts_.faults.Add("poison task kills its machine");
    return Fate::kKillsMachine;
  }
  if (!faulty_) {
    return Fate::kFinishes;
  }
  // A broken machine says so of a task whose result comes late from another.
  if (oracles_.WasProduced(TaskId(static_cast<int64_t>(task.task_id()))) &&
      Chance(0.2)) {
    counts_.faults.Add("task with a late result refused");
    return Fate::kRefused;
  }
  const double chance = random_.Uniform();
  if (chance < 0.01) {
    counts_.faults.Add("engine crashed");
    return Fate::kCrashes;
  }
  if (chance < 0.015) {
    counts_.faults.Add("engine hangs");
    return Fate::kHangs;
  }
  return Fate::kFinishes;
}

void SimulatedWorker::Do(const action::Run& run) {
  run_ = {run.run, ++runs_};
  const bool warm = run.run->task().model_digest() == resident_;
  Later(warm ? absl::Milliseconds(10) : UpTo(absl::Seconds(3)),
        [this, number = runs_, r = run.run] {
          if (run_.number == number && run_.run != nullptr) {
            resident_ = r->task().model_digest();
            RunEngine(r->task(), number);
            Progress(r->task().task_id(), v1::TASK_PHASE_RUN);
          }
        });
}

void SimulatedWorker::RunEngine(const v1::TaskSpec& task, uint64_t number) {
  counts_.checks.Add("run begun in an engine");
  const bool long_run = faulty_ && Chance(0.02);
  const absl::Duration takes =
      long_run ? absl::Seconds(30) + UpTo(absl::Seconds(60))
               : absl::Milliseconds(300) + UpTo(absl::Seconds(5));
  const auto then = [this, number](absl::Duration delay,
                                   std::function<void()> act) {
    Later(delay, [this, number, act = std::move(act)] {
      if (run_.number == number && run_.run != nullptr) {
        act();
      }
    });
  };
  if (long_run) {
    then(takes / 2,
         [this, id = task.task_id()] { Progress(id, v1::TASK_PHASE_RUN); });
  }
  switch (FateOf(task)) {
    case Fate::kHangs:
      break;
    case Fate::kKillsMachine:
      then(takes / 2, [this] { Kill(true); });
      break;
    case Fate::kCrashes:
      then(takes / 2, [this] {
        run_ = {};
        resident_.clear();
        Feed(event::EngineExited{absl::UnavailableError("signal 11")});
      });
      break;
    case Fate::kRefused:
      then(takes / 2, [this, id = task.task_id()] {
        run_ = {};
        event::EngineRefused refused;
        refused.failed.set_task_id(id);
        *refused.failed.mutable_failure() = FailureFromStatus(
            absl::InvalidArgumentError("cannot be measured"), false);
        Feed(std::move(refused));
      });
      break;
    case Fate::kFinishes:
      then(takes, [this] {
        const v1::TaskSpec done = run_.run->task();
        run_ = {};
        Finish(done);
      });
      break;
  }
}

void SimulatedWorker::Progress(uint64_t task, v1::TaskPhase phase) {
  event::EngineProgressed progressed;
  progressed.progress.set_task_id(task);
  progressed.progress.mutable_progress()->set_phase(phase);
  Feed(std::move(progressed));
}

void SimulatedWorker::Finish(const v1::TaskSpec& task) {
  event::EngineFinished finished;
  finished.done.set_task_id(task.task_id());
  v1::TaskResult& result = *finished.done.mutable_result();
  result = testing::HonestResult(task);
  Embellish(task, result);
  if (Chance(0.2)) {
    result.mutable_report()->set_load_seconds(10 * random_.Uniform());
  }
  if (options_.wrong_results && faulty_ && Chance(0.2)) {
    counts_.faults.Add("times that were not");
    result.mutable_report()->set_run_seconds(1e8);
    result.mutable_report()->set_weight_seconds(1e7);
    result.mutable_report()->set_weight_bytes(1);
  }
  v1::Measurement& row = *result.mutable_rows(0);
  if (options_.wrong_results && faulty_ && Chance(0.2) &&
      row.status() == v1::ROW_STATUS_OK) {
    counts_.faults.Add("wrong result");
    row.set_nll_sum(row.nll_sum() + 1e-9);
  }
  Feed(std::move(finished));
}

void SimulatedWorker::Embellish(const v1::TaskSpec& task,
                                v1::TaskResult& result) {
  const bool lies = options_.wrong_results && faulty_ && Chance(0.2);
  bool calibrated = false;
  for (v1::Measurement& row : *result.mutable_rows()) {
    const v1::ConfigurationSpec& configuration =
        task.configurations(static_cast<int>(row.configuration_index()));
    if (IsTooLong(task, row)) {
      row.set_status(v1::ROW_STATUS_TOO_LONG);
      row.set_tokens(0);
      row.clear_nll_sum();
      row.clear_nll_fp_sum();
    }
    if (absl::StrContains(configuration.quantizer(), "texts=")) {
      calibrated = true;
      row.set_codes(Digest::Of(absl::StrCat(lies ? "other codes" : "codes",
                                            configuration.digest()))
                        .bytes());
    }
  }
  if (calibrated) {
    counts_.checks.Add("result with codes");
    counts_.faults.Add("other codes", lies ? 1 : 0);
  }
}

void SimulatedWorker::SendForgery() {
  const auto& tasks = oracles_.durable().tasks();
  if (!up() || tasks.empty()) {
    return;
  }
  auto it = tasks.begin();
  for (uint64_t i = random_.Below(tasks.size()); i > 0; --i) {
    ++it;
  }
  const Task& task = (*it).second;
  if (task.state == v1::TASK_STATE_DONE) {
    return;
  }
  counts_.faults.Add("forged result");
  const v1::TaskSpec spec = oracles_.durable().MakeTaskSpec(task);
  v1::CommitResultRequest request;
  *request.add_results() = testing::EnvelopeOf(
      spec, static_cast<uint64_t>(task.epoch().value()) + 1000,
      testing::HonestResult(spec));
  network_.Send(options_.node, kCoordinator, [this, request] {
    coordinator_.Call<v1::CommitResultResponse>(
        options_.node, request,
        [this](const absl::StatusOr<v1::CommitResultResponse>& response) {
          if (response.ok()) {
            counts_.outcomes.Add(
                v1::CommitOutcome_Name(response->results(0).outcome()));
          }
        });
  });
}

}  // namespace qsweep::sim
