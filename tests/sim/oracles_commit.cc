// What each mutation that was written may do.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "coordinator/core/commit.h"
#include "coordinator/core/decision.h"
#include "tests/sim/oracles.h"

namespace qsweep::sim {
namespace {

struct Move {
  v1::TaskState from;
  v1::TaskState to;
};

// All there are: docs/reference/state-machine.md.
constexpr Move kMoves[] = {
    {v1::TASK_STATE_BLOCKED, v1::TASK_STATE_READY},
    {v1::TASK_STATE_READY, v1::TASK_STATE_LEASED},
    {v1::TASK_STATE_LEASED, v1::TASK_STATE_DONE},
    {v1::TASK_STATE_READY, v1::TASK_STATE_DONE},
    {v1::TASK_STATE_BACKOFF, v1::TASK_STATE_DONE},
    {v1::TASK_STATE_QUARANTINED, v1::TASK_STATE_DONE},
    {v1::TASK_STATE_LEASED, v1::TASK_STATE_BACKOFF},
    {v1::TASK_STATE_LEASED, v1::TASK_STATE_READY},
    {v1::TASK_STATE_LEASED, v1::TASK_STATE_QUARANTINED},
    {v1::TASK_STATE_BACKOFF, v1::TASK_STATE_READY},
    {v1::TASK_STATE_READY, v1::TASK_STATE_CANCELLED},
    {v1::TASK_STATE_BACKOFF, v1::TASK_STATE_CANCELLED},
    {v1::TASK_STATE_LEASED, v1::TASK_STATE_CANCELLED},
    {v1::TASK_STATE_QUARANTINED, v1::TASK_STATE_READY},
    {v1::TASK_STATE_CANCELLED, v1::TASK_STATE_READY},
};

std::string MeasurementKey(const MeasuredRow& row,
                           const std::string& evaluation) {
  return absl::StrCat(row.configuration.bytes(), row.document.bytes(),
                      evaluation);
}

}  // namespace

void Oracles::Write(const Mutation& mutation) {
  std::visit([this](const auto& m) { Check(m); }, mutation);
  if (!failed()) {  // State would end the process
    durable_.Apply(mutation);
  }
}

void Oracles::CheckMove(const Task& task, v1::TaskState to) {
  counts_.transitions.Add(
      absl::StrCat(ShortName(task.state), " -> ", ShortName(to)));
  const bool legal = std::ranges::any_of(kMoves, [&](const Move& move) {
    return move.from == task.state && move.to == to;
  });
  if (!legal) {
    Fail(task.state == v1::TASK_STATE_DONE ? 7 : 4,
         absl::StrCat("task ", task.id.value(), " moved from ",
                      ShortName(task.state), " to ", ShortName(to)));
  }
}

void Oracles::Check(const JobAdded& m) {
  if (durable_.FindJob(m.uuid) != nullptr || m.number != durable_.next_job()) {
    Fail(9, absl::StrCat("job ", m.number.value(),
                         " was made twice or out of order"));
  }
}

// Each measurement of the job is counted once: as reused, or as brought by a
// task.
void Oracles::Check(const JobActivated& m) {
  counts_.checks.Add("plans added up");
  auto counted = static_cast<int64_t>(m.plan->measurements_reused());
  for (const auto& [task, measurements] : durable_.job(m.job).tasks) {
    counted += measurements;
  }
  if (counted != static_cast<int64_t>(m.plan->measurements())) {
    Fail(13, absl::StrCat("the plan of job ", m.job.value(), " has ", counted,
                          " of ", m.plan->measurements(), " measurements"));
  }
}

void Oracles::Check(const JobReopened& m) { reopened_.push_back(m.job); }

void Oracles::Check(const JobPurged& m) {
  const Job* job = durable_.FindJob(m.job);
  if (job == nullptr || !job->terminal()) {
    Fail(17, absl::StrCat("job ", m.job.value(),
                          " was deleted before it had ended"));
    return;
  }
  counts_.checks.Add("job deleted");
  deleted_.insert(m.job);
  jobs_.erase(job->uuid.bytes());
  cancelled_.erase(m.job);
  for (const auto& [task, measurements] : job->tasks) {
    if (durable_.task(task).jobs.size() == 1) {  // nobody else has it
      ForgetResults(task);
    }
  }
}

void Oracles::ForgetResults(TaskId task) {
  std::erase_if(results_, [task](const auto& entry) {
    return entry.first.first == task;
  });
}

void Oracles::Check(const TaskStateChanged& m) {
  const Task& task = durable_.task(m.task);
  CheckMove(task, m.to);
  if (m.new_budgets) {
    charged_.erase(m.task);
  }
}

void Oracles::Check(const ResultCommitted& m) {
  const Task& task = durable_.task(m.task);
  CheckMove(task, v1::TASK_STATE_DONE);
  if (!m.epoch.valid() || m.epoch > task.epoch()) {
    Fail(3, absl::StrCat("task ", task.id.value(), " has a result of epoch ",
                         m.epoch.value(), ", which was never granted"));
    return;
  }
  const Grant& grant =
      task.history->grants[static_cast<size_t>(m.epoch.value() - 1)];
  if (revoked_.contains(grant.credential)) {
    Fail(20, absl::StrCat("a result of task ", task.id.value(),
                          " was taken from a worker whose token is revoked"));
  }
  const auto produced = produced_.find({m.task, m.epoch});
  const bool made =
      produced != produced_.end() &&
      std::ranges::any_of(produced->second, [&m](const Produced& p) {
        return p.payload_digest == m.payload_digest;
      });
  if (!made) {
    Fail(3, absl::StrCat("the stored result of task ", task.id.value(),
                         " is not what epoch ", m.epoch.value(), " made"));
    return;
  }
  CheckSpeed(m, task);
  if (HasOtherCodes({m.task, m.epoch}, m.payload_digest)) {
    ExpectAlarm({m.task, m.epoch}, m.payload_digest);
  }
  CheckRows(m, task);
  if (task.lease) {
    talks_.erase({m.task, task.epoch()});
    CheckCharge({m.task, task.epoch()}, task.lease->worker, m.held);
  } else if (m.held != absl::ZeroDuration()) {
    Fail(15, absl::StrCat("a late result of task ", task.id.value(),
                          " was charged once more"));
  }
}

void Oracles::Check(const JobStateChanged& m) {
  fairness_.OnJobChanged(m.job);
  if (m.state == v1::JOB_STATE_CANCELLED &&
      absl::EndsWith(m.reason, "queue timeout")) {
    counts_.faults.Add("queue timeout");
  }
}

void Oracles::Check(const JobPriorityChanged& m) {
  fairness_.OnJobChanged(m.job);
}

// The rows of a result and those stored before are the task's keys, once each.
void Oracles::CheckRows(const ResultCommitted& m, const Task& task) {
  for (const MeasuredRow& row : m.rows) {
    const Origin origin{.task = m.task, .epoch = m.epoch};
    if (!measured_.emplace(MeasurementKey(row, m.evaluation), origin).second) {
      Fail(1, absl::StrCat("a measurement of task ", task.id.value(),
                           " was written twice"));
    }
    if (!row.values.codes().empty()) {
      codes_[row.configuration].insert(row.values.codes());
    }
  }
  const TaskKeys& keys = KeysOf(task.id);
  for (const Digest& configuration : keys.configurations) {
    for (const Digest& document : keys.documents) {
      if (!measured_.contains(absl::StrCat(
              configuration.bytes(), document.bytes(), keys.evaluation))) {
        Fail(1, absl::StrCat("task ", task.id.value(),
                             " is done and a measurement of it is missing"));
      }
    }
  }
}

void Oracles::Check(const DuplicateRecorded& m) {
  counts_.checks.Add("repeated measurements compared", m.num_compared);
  if (!duplicates_.emplace(Key(m.task, m.epoch), m.payload_digest).second) {
    Fail(3, absl::StrCat("one repeated result of task ", m.task.value(),
                         " was recorded twice"));
  }
  if (!m.differing.empty()) {
    counts_.checks.Add("repeated measurements differ");
  }
  if (!m.differing.empty() ||
      HasOtherCodes({m.task, m.epoch}, m.payload_digest)) {
    ExpectAlarm({m.task, m.epoch}, m.payload_digest);
  }
}

void Oracles::ExpectAlarm(const Key& key, const Digest& payload_digest) {
  if (alarming_.emplace(key, payload_digest).second) {
    alarms_due_[key] +=
        static_cast<int64_t>(durable_.task(key.first).jobs.size());
  }
}

// Asked for first while the task is not DONE and its documents are in State.
const TaskKeys& Oracles::KeysOf(TaskId task) {
  auto [it, fresh] = keys_.try_emplace(task);
  if (fresh) {
    it->second = KeysOfTask(durable_, durable_.task(task));
  }
  return it->second;
}

bool Oracles::HasOtherCodes(const Key& key, const Digest& payload_digest) {
  const auto made = produced_.find(key);
  if (made == produced_.end()) {
    return false;
  }
  const TaskKeys& keys = KeysOf(key.first);
  for (const Produced& produced : made->second) {
    for (const v1::Measurement& row : produced.result.rows()) {
      const auto known =
          codes_.find(keys.configurations[row.configuration_index()]);
      if (produced.payload_digest == payload_digest && !row.codes().empty() &&
          known != codes_.end() && !known->second.contains(row.codes())) {
        counts_.checks.Add("other codes raise the alarm");
        return true;
      }
    }
  }
  return false;
}

void Oracles::CheckAlarms() {
  for (const auto& [key, due] : std::exchange(alarms_due_, {})) {
    if (due != 0) {
      Fail(3, absl::StrCat("a result of task ", key.first.value(),
                           due > 0 ? " differs and raised no alarm"
                                   : " raised an alarm too many"));
    }
  }
  alarming_.clear();
}

void Oracles::Check(const EventAppended& m) {
  const Job* job = durable_.FindJob(m.job);  // none: of a worker
  if (m.event->seq() !=
          static_cast<uint64_t>(durable_.last_event().value()) + 1 ||
      (job != nullptr &&
       m.event->job_seq() != static_cast<uint64_t>(job->last_job_seq) + 1)) {
    Fail(11, absl::StrCat("an event of job ", m.job.value(),
                          " leaves a gap or repeats a number"));
  }
  if (m.event->kind() == "determinism_alarm") {
    --alarms_due_[{TaskId(static_cast<int64_t>(m.event->task_id())),
                   Epoch(static_cast<int64_t>(m.event->epoch()))}];
  }
}

}  // namespace qsweep::sim
