#include "coordinator/core/state.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace qsweep {
namespace {

bool IsLive(v1::TaskState state) {
  return state == v1::TASK_STATE_BLOCKED || state == v1::TASK_STATE_READY ||
         state == v1::TASK_STATE_LEASED || state == v1::TASK_STATE_BACKOFF;
}

size_t Slot(v1::TaskState state) { return static_cast<size_t>(state); }

}  // namespace

bool Job::terminal() const { return IsTerminal(state); }

bool IsTerminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

int64_t Job::tasks_live() const {
  return tasks_by_state[Slot(v1::TASK_STATE_BLOCKED)] +
         tasks_by_state[Slot(v1::TASK_STATE_READY)] +
         tasks_by_state[Slot(v1::TASK_STATE_LEASED)] +
         tasks_by_state[Slot(v1::TASK_STATE_BACKOFF)];
}

bool Task::live() const { return IsLive(state); }

State::State(StateSnapshot snapshot)
    : coordinator_epoch_(snapshot.coordinator_epoch),
      last_group_(snapshot.last_group),
      last_event_(snapshot.last_event),
      corpora_(std::move(snapshot.corpora)),
      models_(std::move(snapshot.models)) {
  for (TaskGroup& group : snapshot.groups) {
    groups_.emplace(group.id, std::move(group));
  }
  for (Job& job : snapshot.jobs) {
    last_job_ = std::max(last_job_, job.number);
    job_of_uuid_.emplace(job.uuid, job.number);
    if (!job.terminal()) {
      active_jobs_.insert(job.number);
    }
    jobs_.emplace(job.number, std::move(job));
  }
  for (Token& token : snapshot.tokens) {
    On(TokenAdded{std::move(token)});
  }
  for (Worker& worker : snapshot.workers) {
    workers_.emplace(worker.uuid, std::move(worker));
  }
  for (Task& task : snapshot.tasks) {
    last_task_ = std::max(last_task_, task.id);
    task_of_key_.emplace(task.content_key, task.id);
    Task& stored = tasks_.emplace(task.id, std::move(task)).first->second;
    Enter(stored);
    if (stored.lease) {
      workers_[stored.lease->worker].leases.insert(stored.id);
    }
  }
}

void State::Apply(const Mutation& mutation) {
  std::visit([this](const auto& m) { On(m); }, mutation);
}

void State::Enter(const Task& task) {
  for (const JobNumber number : task.jobs) {
    Job& job = jobs_.at(number);
    ++job.tasks_by_state[Slot(task.state)];
    if (task.state == v1::TASK_STATE_READY) {
      job.ready[task.group].insert(task.id);
    }
  }
  if (task.live()) {
    live_tasks_of_model_[groups_.at(task.group).model_digest].insert(task.id);
  }
  if (task.state == v1::TASK_STATE_BACKOFF) {
    backoff_tasks_.insert(task.id);
  }
  if (task.state == v1::TASK_STATE_LEASED) {
    leased_tasks_.insert(task.id);
  }
}

void State::Leave(const Task& task) {
  for (const JobNumber number : task.jobs) {
    Job& job = jobs_.at(number);
    --job.tasks_by_state[Slot(task.state)];
    if (task.state == v1::TASK_STATE_READY) {
      const auto group = job.ready.find(task.group);
      group->second.erase(task.id);
      if (group->second.empty()) {
        job.ready.erase(group);
      }
    }
  }
  live_tasks_of_model_[groups_.at(task.group).model_digest].erase(task.id);
  backoff_tasks_.erase(task.id);
  leased_tasks_.erase(task.id);
}

void State::Move(Task& task, v1::TaskState to) {
  Leave(task);
  task.state = to;
  Enter(task);
}

void State::EndLease(Task& task, LeaseEnd end, absl::Duration held) {
  QSWEEP_CHECK(task.lease);
  Worker& worker = workers_.at(task.lease->worker);
  worker.leases.erase(task.id);
  if (held > absl::ZeroDuration()) {
    worker.charged_until =
        std::max(worker.charged_until, task.lease->granted_at) + held;
  }
  task.grants.back().end = end;
  task.lease.reset();
}

void State::On(const CoordinatorStarted& m) {
  QSWEEP_CHECK(m.epoch > coordinator_epoch_);
  coordinator_epoch_ = m.epoch;
  for (const TaskId id : leased_tasks_) {
    Lease& lease = *tasks_.at(id).lease;
    lease.granted_at = m.now;
    lease.progress_at = m.now;
    lease.deadline = m.failover_deadline;
  }
  for (const TaskId id : backoff_tasks_) {
    Task& task = tasks_.at(id);
    task.ready_at = m.now + task.backoff;
  }
}

// The store keeps the bytes; decisions need to know only of corpora.
void State::On(const ArtifactAdded&) {}

void State::On(const CorpusAdded& m) {
  corpora_[m.corpus->name()] = *Digest::FromBytes(m.corpus->digest());
}

void State::On(const ModelAdded& m) { models_.insert(m.digest); }

void State::On(const JobAdded& m) {
  QSWEEP_CHECK(m.number == next_job() && !job_of_uuid_.contains(m.uuid));
  last_job_ = m.number;
  Job job;
  job.number = m.number;
  job.uuid = m.uuid;
  job.spec_digest = m.spec_digest;
  job.name = m.spec->name();
  job.owner = m.owner;
  job.kind = m.spec->kind();
  job.priority = m.spec->policy().priority();
  job.max_retries = static_cast<int>(m.spec->policy().max_retries());
  job.max_fails = static_cast<int>(m.spec->policy().max_fails());
  job.labels = {m.spec->labels().begin(), m.spec->labels().end()};
  job.created_at = m.created_at;
  job.measurements_total = static_cast<int64_t>(m.plan->measurements());
  job.measurements_reused = static_cast<int64_t>(m.plan->measurements_reused());
  job.measurements_done = job.measurements_reused;
  job.documents_skipped = m.documents_skipped;
  job_of_uuid_.emplace(m.uuid, m.number);
  active_jobs_.insert(m.number);
  jobs_.emplace(m.number, std::move(job));
}

void State::On(const JobReopened& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(job.terminal());
  if (m.plan != nullptr) {
    const int64_t by_tasks = job.measurements_done - job.measurements_reused;
    job.measurements_reused =
        static_cast<int64_t>(m.plan->measurements_reused());
    job.measurements_done = job.measurements_reused + by_tasks;
  }
  job.state = v1::JOB_STATE_PLANNING;
  job.reason.clear();
  job.finished_at = absl::InfinitePast();
  active_jobs_.insert(m.job);
}

void State::On(const JobPriorityChanged& m) {
  jobs_.at(m.job).priority = m.priority;
}

void State::On(const JobStateChanged& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(!job.terminal());
  job.state = m.state;
  job.reason = m.reason;
  if (job.terminal()) {
    job.finished_at = m.time;
    active_jobs_.erase(m.job);
  }
}

void State::On(const TaskGroupAdded& m) {
  QSWEEP_CHECK(m.id == next_group());
  last_group_ = m.id;
  groups_.emplace(m.id, MakeTaskGroup(m.id, m.prototype));
}

void State::On(const TaskAdded& m) {
  QSWEEP_CHECK(m.id == next_task() && groups_.contains(m.group));
  last_task_ = m.id;
  QSWEEP_CHECK(task_of_key_.emplace(m.content_key, m.id).second);
  Task task;
  task.id = m.id;
  task.group = m.group;
  task.content_key = m.content_key;
  task.num_documents = static_cast<int64_t>(m.documents.size());
  task.documents = m.documents;
  task.estimated_seconds = m.estimated_seconds;
  Enter(tasks_.emplace(m.id, std::move(task)).first->second);
}

void State::On(const JobTaskAdded& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(task.live() && !jobs_.at(m.job).terminal());
  Leave(task);
  QSWEEP_CHECK(
      jobs_.at(m.job).tasks.emplace(m.task, m.num_measurements).second);
  task.jobs.insert(std::ranges::upper_bound(task.jobs, m.job), m.job);
  Enter(task);
}

void State::On(const JobTaskRemoved& m) {
  Task& task = tasks_.at(m.task);
  Leave(task);
  QSWEEP_CHECK(jobs_.at(m.job).tasks.erase(m.task) == 1);
  std::erase(task.jobs, m.job);
  Enter(task);
}

void State::On(const LeaseGranted& m) {
  Task& task = tasks_.at(m.task);
  // DecideLease made sure; an epoch is granted once.
  QSWEEP_CHECK(task.state == v1::TASK_STATE_READY && !task.lease &&
               m.epoch == task.epoch().Next());
  Worker& worker = workers_.at(m.worker);
  task.grants.push_back({.worker = m.worker, .credential = m.credential});
  task.lease = Lease{.worker = m.worker,
                     .session = m.session,
                     .granted_at = m.now,
                     .deadline = m.deadline,
                     .progress_at = m.now};
  task.reason.clear();
  worker.leases.insert(m.task);
  worker.holder = m.job;
  Move(task, v1::TASK_STATE_LEASED);
}

void State::On(const LeaseEnded& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(task.lease && m.epoch == task.epoch());
  EndLease(task, m.end, m.held);
  task.failed += m.end == LeaseEnd::kFailed || m.end == LeaseEnd::kStalled;
  task.lost += m.end == LeaseEnd::kLost;
  task.preempted += m.end == LeaseEnd::kPreempted;
  task.reason = m.reason;
  task.backoff =
      m.to == v1::TASK_STATE_BACKOFF ? m.backoff : absl::ZeroDuration();
  task.ready_at = m.now + task.backoff;
  Move(task, m.to);
}

void State::On(const TaskStateChanged& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(!task.lease && task.state != v1::TASK_STATE_DONE &&
               m.to != v1::TASK_STATE_LEASED && m.to != v1::TASK_STATE_DONE);
  if (m.new_budgets) {
    task.failed = task.lost = task.preempted = 0;
  }
  task.reason = m.reason;
  task.backoff = absl::ZeroDuration();
  Move(task, m.to);
}

void State::On(const ResultCommitted& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(task.state != v1::TASK_STATE_DONE && m.epoch.valid() &&
               m.epoch <= task.epoch());
  if (task.lease) {
    EndLease(
        task,
        m.epoch == task.epoch() ? LeaseEnd::kCommitted : LeaseEnd::kSuperseded,
        m.held);
  }
  task.grants[static_cast<size_t>(m.epoch.value() - 1)].end =
      LeaseEnd::kCommitted;
  task.result_digest = m.payload_digest;
  task.result_epoch = m.epoch;
  task.reason.clear();
  task.backoff = absl::ZeroDuration();
  Move(task, v1::TASK_STATE_DONE);
  task.documents.clear();
  task.documents.shrink_to_fit();
  for (const JobNumber number : task.jobs) {
    Job& job = jobs_.at(number);
    job.measurements_done += job.tasks.at(m.task);
  }
  for (const auto& [number, skipped] : m.documents_skipped) {
    jobs_.at(number).documents_skipped = skipped;
  }
  if (const auto worker = workers_.find(m.worker); worker != workers_.end()) {
    ++worker->second.tasks_done;
    worker->second.loaded = groups_.at(task.group).model_digest;
  }
}

// Kept by the store alone: it changes no decision.
void State::On(const DuplicateRecorded&) {}

void State::On(const EventAppended& m) {
  const EventSeq seq(static_cast<int64_t>(m.event->seq()));
  QSWEEP_CHECK(seq == last_event_.Next());
  last_event_ = seq;
  if (!m.job.valid()) {
    return;
  }
  Job& job = jobs_.at(m.job);
  ++job.last_job_seq;
  QSWEEP_CHECK(m.event->job_seq() == static_cast<uint64_t>(job.last_job_seq));
}

void State::On(const WorkerAttached& m) {
  Worker& worker = workers_[m.worker];
  const bool same_process = worker.boot == m.boot && !m.boot.empty();
  worker.uuid = m.worker;
  worker.name = m.hello->name();
  worker.build_id = m.hello->build_id();
  worker.devices = {m.hello->devices().begin(), m.hello->devices().end()};
  worker.boot_seq = m.boot_seq;
  worker.credential = m.credential;
  worker.last_seen = m.time;
  worker.liveness = WorkerLiveness::kLive;
  worker.session = m.session;
  worker.boot = m.boot;
  worker.hello = m.hello;
  worker.state.reset();
  if (!same_process) {
    worker.attached_at = m.now;
    worker.loaded = Digest();
  }
  worker.seen_at = m.now;
  worker.deadline = m.deadline;
  worker.beat_seq = 0;
  worker.state_seq = 0;
  for (const TaskId id : worker.leases) {
    tasks_.at(id).lease->sent_seq = 0;  // of another session: not seen in this
  }
}

void State::On(const WorkerModeChanged& m) {
  Worker& worker = workers_.at(m.worker);
  worker.mode = m.mode;
  worker.mode_reason = m.reason;
  if (m.mode == WorkerMode::kOpen) {
    worker.blamed = 0;
  }
}

void State::On(const WorkerBlamed& m) { ++workers_.at(m.worker).blamed; }

void State::On(const WorkerReported& m) {
  Worker& worker = workers_.at(m.worker);
  worker.state = m.state;
  worker.beat_seq = m.state->beat_seq();
  worker.seen_at = m.now;
  worker.deadline = m.deadline;
  worker.liveness = WorkerLiveness::kLive;
}

void State::On(const WorkerLivenessChanged& m) {
  workers_.at(m.worker).liveness = m.to;
}

void State::On(const LeaseRenewed& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(task.lease && m.epoch == task.epoch());
  Lease& lease = *task.lease;
  const bool grew = m.progress.progress_seq() > lease.progress.progress_seq() ||
                    m.progress.phase() != lease.progress.phase();
  if (!lease.listed || grew) {
    lease.progress_at = m.now;
  }
  lease.listed = true;
  lease.deadline = m.deadline;
  lease.progress = m.progress;
  if (lease.progress.phase() == v1::TASK_PHASE_RUN) {
    workers_.at(lease.worker).loaded = groups_.at(task.group).model_digest;
  }
}

void State::On(const WorkerInformed& m) {
  Worker& worker = workers_.at(m.worker);
  worker.state_seq = m.state_seq;
  for (const TaskId id : worker.leases) {
    Lease& lease = *tasks_.at(id).lease;
    if (lease.sent_seq == 0) {
      lease.sent_seq = m.state_seq;
    }
  }
}

void State::On(const TokenAdded& m) {
  QSWEEP_CHECK(m.token.id >= next_token());
  if (m.token.joined_with.valid()) {
    ++tokens_.at(m.token.joined_with).uses;
  }
  QSWEEP_CHECK(token_of_secret_.emplace(m.token.secret, m.token.id).second);
  tokens_.emplace(m.token.id, m.token);
}

void State::On(const TokenRevoked& m) {
  tokens_.at(m.token).revoked_at = m.revoked_at;
}

void State::On(const AuditRecorded&) {}

TaskGroup MakeTaskGroup(TaskGroupId id,
                        std::shared_ptr<const v1::TaskSpec> prototype) {
  TaskGroup group{.id = id, .prototype = std::move(prototype)};
  group.model_digest = *Digest::FromBytes(group.prototype->model_digest());
  const std::string& evaluation = group.prototype->evaluation();
  group.evaluation_name = evaluation.substr(0, evaluation.find(';'));
  for (const v1::ConfigurationSpec& c : group.prototype->configurations()) {
    group.configurations.push_back(*Digest::FromBytes(c.digest()));
    const std::string method = c.quantizer().substr(0, c.quantizer().find(':'));
    if (method != "fp") {
      group.methods.insert(method == "upstream" ? "rtn" : method);
    }
  }
  return group;
}

}  // namespace qsweep
