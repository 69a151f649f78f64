// What was acknowledged, and what a restart finds. Mutations:
// oracles_commit.cc; leases: oracles_lease.cc.
#include "tests/sim/oracles.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "coordinator/core/cancel.h"

namespace qsweep::sim {
namespace {

TaskId TaskOf(const v1::ResultEnvelope& envelope) {
  return TaskId(static_cast<int64_t>(envelope.task_id()));
}
Epoch EpochOf(const v1::ResultEnvelope& envelope) {
  return Epoch(static_cast<int64_t>(envelope.epoch()));
}

// The first lines that differ, for people.
std::string Difference(const State& found, const State& expected) {
  const std::string dump_a = found.DumpDurable();
  const std::string dump_b = expected.DumpDurable();
  const std::vector<absl::string_view> a = absl::StrSplit(dump_a, '\n');
  const std::vector<absl::string_view> b = absl::StrSplit(dump_b, '\n');
  std::string text;
  for (size_t i = 0, shown = 0; i < std::max(a.size(), b.size()) && shown < 2;
       ++i) {
    const absl::string_view x = i < a.size() ? a[i] : "nothing";
    const absl::string_view y = i < b.size() ? b[i] : "nothing";
    if (x != y) {
      absl::StrAppend(&text, "\n  found    ", x, "\n  expected ", y);
      ++shown;
    }
  }
  return text;
}

}  // namespace

Oracles::Oracles(const Schedule& schedule, const Settings& settings,
                 Counts& counts)
    : schedule_(schedule), settings_(settings), counts_(counts) {}

void Oracles::Fail(int invariant, const std::string& what) {
  if (problems_.size() < 5) {
    problems_.push_back(absl::StrCat("invariant ", invariant, ": ", what));
  }
}

void Oracles::OnCommitted(std::span<const Mutation> batch) {
  WriteBatch(batch, schedule_.now());
}

void Oracles::WriteBatch(std::span<const Mutation> batch, SteadyTime at) {
  written_at_ = at;
  for (const Mutation& mutation : batch) {
    if (const auto* reported = std::get_if<WorkerReported>(&mutation)) {
      reported_[reported->worker] = reported->state;
    }
    if (IsDurable(mutation) && !failed()) {
      Write(mutation);
    }
  }
  CheckAlarms();
  for (const JobNumber job : std::exchange(reopened_, {})) {
    const Job* known = durable_.FindJob(job);
    if (known != nullptr && known->state == v1::JOB_STATE_PLANNING) {
      counts_.faults.Add("large job tried again");
    }
  }
}

void Oracles::OnUnknownCommit(std::span<const Mutation> batch) {
  if (unknown_.empty()) {  // what a dead process does later is not written
    unknown_.assign(batch.begin(), batch.end());
    unknown_at_ = schedule_.now();
  }
}

void Oracles::OnLoaded(const StateSnapshot& snapshot) {
  counts_.checks.Add("reload equals what was written");
  const State loaded(snapshot);
  const uint64_t found = loaded.HashDurable();
  uint64_t expected = durable_.HashDurable();
  if (found != expected && !unknown_.empty()) {
    counts_.checks.Add("an unknown commit had been written");
    WriteBatch(std::exchange(unknown_, {}), unknown_at_);
    expected = durable_.HashDurable();
  }
  unknown_.clear();
  if (found != expected && !failed()) {
    Fail(19, "the database does not hold what was written, all and no more:" +
                 Difference(loaded, durable_));
  }
  for (const auto& [number, job] : loaded.jobs()) {
    if (job.state == v1::JOB_STATE_PLANNING) {
      counts_.faults.Add("plan interrupted by a restart");
    }
    if (HasTasksToDrop(job)) {
      counts_.faults.Add("large cancel interrupted by a restart");
    }
  }
  CheckAcknowledged(loaded);
  reports_.clear();
  loaded_at_ = schedule_.now();
  ++loads_;
  RestartLedger();
  fairness_.OnLoaded();
}

void Oracles::CheckReload(const StateSnapshot& snapshot) {
  counts_.checks.Add("reload equals what was written");
  const State loaded(snapshot);
  if (loaded.HashDurable() != durable_.HashDurable()) {
    Fail(19, "the database does not hold what was written:" +
                 Difference(loaded, durable_));
  }
}

void Oracles::CheckAcknowledged(const State& state) {
  for (const auto& [uuid, number] : jobs_) {
    const Job* job = state.FindJob(*JobUuid::FromBytes(uuid));
    if (job == nullptr || job->number != number) {
      Fail(9, absl::StrCat("acknowledged job ", number.value(), " is lost"));
    }
  }
  for (const JobNumber number : cancelled_) {
    const Job* job = state.FindJob(number);
    // STOPPING: of a large one what waits is dropped in slices.
    if (job == nullptr || (job->state != v1::JOB_STATE_CANCELLED &&
                           job->state != v1::JOB_STATE_STOPPING)) {
      Fail(17, absl::StrCat("the acknowledged cancel of job ", number.value(),
                            " is lost"));
    }
  }
  for (const auto& [key, answered] : results_) {
    const Task* task = state.FindTask(key.first);
    const bool own = answered.outcome == v1::COMMIT_OUTCOME_OK ||
                     answered.outcome == v1::COMMIT_OUTCOME_ALREADY_COMMITTED;
    if (task == nullptr || task->state != v1::TASK_STATE_DONE ||
        (own && (task->history->result_epoch != key.second ||
                 task->history->result_digest != answered.payload_digest))) {
      Fail(2,
           absl::StrCat("the acknowledged result of task ", key.first.value(),
                        " epoch ", key.second.value(), " is lost"));
    }
  }
}

void Oracles::AfterStep(const State& state, bool disk_full) {
  for (const Report& report : std::exchange(reports_, {})) {
    Accept(state, report);
  }
  if (!disk_full) {
    CheckOverdue(state);
  }
  const int64_t compared = fairness_.num_compared();
  for (const std::string& problem : fairness_.AfterStep(state)) {
    Fail(16, problem);
  }
  if (fairness_.num_compared() > compared) {
    counts_.checks.Add("fair grant compared",
                       fairness_.num_compared() - compared);
  }
}

void Oracles::CheckAll(const State& state) {
  counts_.checks.Add("all of State");
  for (const std::string& problem : CheckInvariants(state)) {
    Fail(4, problem);
  }
  // A reload that is not written yet has the next coordinator epoch.
  if (state.coordinator_epoch() == durable_.coordinator_epoch()) {
    if (state.HashDurable() != durable_.HashDurable()) {
      Fail(19, "State is not what was written:" + Difference(state, durable_));
    }
  }
}

void Oracles::OnProduced(const v1::ResultEnvelope& envelope) {
  Produced produced{.payload_digest =
                        *Digest::FromBytes(envelope.payload_sha256())};
  produced.result.ParseFromString(envelope.payload());
  produced_[{TaskOf(envelope), EpochOf(envelope)}].push_back(
      std::move(produced));
}

bool Oracles::WasProduced(TaskId task) const {
  const auto first = produced_.lower_bound({task, Epoch()});
  return first != produced_.end() && first->first.first == task;
}

std::vector<const v1::TaskResult*> Oracles::ProducedBy(TaskId task,
                                                       Epoch epoch) const {
  std::vector<const v1::TaskResult*> results;
  if (const auto it = produced_.find({task, epoch}); it != produced_.end()) {
    for (const Produced& produced : it->second) {
      results.push_back(&produced.result);
    }
  }
  return results;
}

void Oracles::OnResultAnswered(const v1::ResultEnvelope& envelope,
                               v1::CommitOutcome outcome) {
  counts_.outcomes.Add(v1::CommitOutcome_Name(outcome));
  const bool of_produced =
      produced_.contains({TaskOf(envelope), EpochOf(envelope)});
  if (durable_.FindTask(TaskOf(envelope)) == nullptr) {
    return;  // deleted with its job
  }
  if (outcome == v1::COMMIT_OUTCOME_REJECTED && of_produced) {
    Fail(2, absl::StrCat("the result of task ", envelope.task_id(), " epoch ",
                         envelope.epoch(), " was rejected"));
  }
  if (outcome == v1::COMMIT_OUTCOME_OK ||
      outcome == v1::COMMIT_OUTCOME_ALREADY_COMMITTED ||
      outcome == v1::COMMIT_OUTCOME_SUPERSEDED) {
    results_[{TaskOf(envelope), EpochOf(envelope)}] = {
        outcome, *Digest::FromBytes(envelope.payload_sha256())};
  }
}

void Oracles::OnSubmitAnswered(const std::string& uuid,
                               const v1::SubmitJobResponse& response) {
  const JobNumber number(static_cast<int64_t>(response.job_number()));
  if (IsDeleted(number)) {
    return;
  }
  const auto [it, inserted] = jobs_.emplace(uuid, number);
  if (it->second != number) {
    Fail(9, absl::StrCat("one UUID made jobs ", it->second.value(), " and ",
                         number.value()));
  }
  const Job* job = durable_.FindJob(number);
  if (job == nullptr ||
      (job->state == v1::JOB_STATE_PLANNING && !retried_.contains(number))) {
    Fail(9, absl::StrCat("the submit of job ", number.value(),
                         " was answered before its plan was whole"));
  }
  for (const auto& [other_uuid, other] : jobs_) {
    if (other == number && other_uuid != uuid) {
      Fail(9, absl::StrCat("two submits were told job ", number.value()));
    }
  }
}

void Oracles::OnCancelAnswered(JobNumber job) {
  if (!retried_.contains(job) && !IsDeleted(job)) {
    cancelled_.insert(job);
  }
}

void Oracles::OnRetry(JobNumber job) {
  retried_.insert(job);
  cancelled_.erase(job);
}

}  // namespace qsweep::sim
