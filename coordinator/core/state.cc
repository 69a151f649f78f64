#include "coordinator/core/state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

#include "common/base/check.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

size_t Slot(v1::TaskState state) { return static_cast<size_t>(state); }

}  // namespace

// Here, once: in each file that has a State they would be half of its code.
State::State() = default;
State::State(const State& other) = default;
State::State(State&& other) noexcept = default;
State& State::operator=(const State& other) = default;
State& State::operator=(State&& other) noexcept = default;
State::~State() = default;

State::State(StateSnapshot snapshot)
    : coordinator_epoch_(snapshot.coordinator_epoch),
      last_task_(snapshot.last_task),
      last_group_(snapshot.last_group),
      last_event_(snapshot.last_event),
      tasks_(std::move(snapshot.tasks)),
      documents_(std::move(snapshot.documents)),
      corpora_(std::move(snapshot.corpora)),
      models_(std::move(snapshot.models)) {
  for (TaskGroup& group : snapshot.groups) {
    AddGroup(std::move(group));
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
  for (const SpeedSample& sample : snapshot.speeds) {
    speeds_.Add(sample);
  }
  for (Worker& worker : snapshot.workers) {
    workers_.emplace(worker.uuid, std::move(worker));
  }
  for (const auto& [id, task] : tasks_) {
    last_task_ = std::max(last_task_, id);
    ++groups_.at(task.group).num_tasks;
    Enter(task);
    if (task.live()) {
      Cover(task);
    }
    if (task.lease) {
      workers_[task.lease->worker].leases.insert(id);
    }
  }
}

void State::Apply(const Mutation& mutation) {
  std::visit([this](const auto& m) { On(m); }, mutation);
}

void State::AddGroup(TaskGroup group) {
  const auto [panel, added] = panels_.try_emplace(
      std::pair(group.model_digest, group.prototype->evaluation()),
      panels_.size());
  if (added) {
    live_on_.emplace_back();
  }
  group.panel = panel->second;
  groups_.emplace(group.id, std::move(group));
}

void State::IndexKey(const Task& task) {
  QSWEEP_CHECK(
      given_up_.Insert(static_cast<uint32_t>(task.id.value()), KeyOfTask()));
}

void State::UnindexKey(const Task& task) {
  given_up_.Erase(static_cast<uint32_t>(task.id.value()), KeyOfTask());
}

// A task that is not live and that no job has.
void State::Forget(TaskId id) {
  const Task& task = tasks_.at(id);
  QSWEEP_CHECK(!task.live() && task.jobs.empty());
  Leave(task);
  const auto group = groups_.find(task.group);
  if (--group->second.num_tasks == 0) {
    groups_.erase(group);
  }
  tasks_.Erase(id);
}

void State::Enter(const Task& task) {
  ++tasks_by_state_[Slot(task.state)];
  for (const JobNumber number : task.jobs) {
    Job& job = jobs_.at(number);
    ++job.tasks_by_state[Slot(task.state)];
    if (task.state == v1::TASK_STATE_READY) {
      job.ready[task.group].insert(task.id);
    }
  }
  if (task.state == v1::TASK_STATE_BACKOFF) {
    backoff_tasks_.insert(task.id);
  }
  if (task.state == v1::TASK_STATE_LEASED) {
    leased_tasks_.insert(task.id);
  }
  if (task.given_up()) {
    IndexKey(task);
  }
}

void State::Leave(const Task& task) {
  --tasks_by_state_[Slot(task.state)];
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
  if (task.state == v1::TASK_STATE_BACKOFF) {
    backoff_tasks_.erase(task.id);
  }
  if (task.state == v1::TASK_STATE_LEASED) {
    leased_tasks_.erase(task.id);
  }
  if (task.given_up()) {
    UnindexKey(task);
  }
}

void State::Move(Task& task, v1::TaskState to) {
  const bool was_live = task.live();
  Leave(task);
  task.state = to;
  Enter(task);
  if (was_live && !task.live()) {
    Uncover(task);
  } else if (!was_live && task.live()) {
    Cover(task);
  }
}

void State::Cover(const Task& task) {
  LiveTasks& on = live_on_[groups_.at(task.group).panel];
  for (const DocumentRef& ref : task.documents) {
    on.Add(ref.document, task.id);
  }
}

void State::Uncover(const Task& task) {
  LiveTasks& on = live_on_[groups_.at(task.group).panel];
  for (const DocumentRef& ref : task.documents) {
    on.Remove(ref.document, task.id);
  }
}

void State::EndLease(Task& task, LeaseEnd end, absl::Duration held) {
  QSWEEP_CHECK(task.lease);
  Worker& worker = workers_.at(task.lease->worker);
  worker.leases.erase(task.id);
  if (held > absl::ZeroDuration()) {
    worker.charged_until =
        std::max(worker.charged_until, task.lease->granted_at) + held;
  }
  task.history.Edit().grants.back().end = end;
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
    TaskHistory& history = tasks_.at(id).history.Edit();
    history.ready_at = m.now + history.backoff;
  }
}

// The store keeps the bytes; decisions need to know only of corpora.
void State::On(const ArtifactAdded&) {}

void State::On(const CorpusAdded& m) {
  corpora_[m.corpus->name()] = *Digest::FromBytes(m.corpus->digest());
}

void State::On(const ModelAdded& m) { models_.insert(m.digest); }

void State::On(const TaskGroupAdded& m) {
  QSWEEP_CHECK(m.id == next_group());
  last_group_ = m.id;
  AddGroup(MakeTaskGroup(m.id, m.prototype));
}

void State::On(const TaskAdded& m) {
  QSWEEP_CHECK(m.id == next_task() && groups_.contains(m.group));
  last_task_ = m.id;
  Task task;
  task.id = m.id;
  task.group = m.group;
  task.content_key = m.content_key;
  task.estimated_seconds = m.estimated_seconds;
  task.documents.reserve(m.documents.size());
  for (const TaskDocumentKey& key : m.documents) {
    task.documents.push_back({.document = documents_.Add(key.digest),
                              .language_index = key.language_index});
  }
  if (m.audit_of.valid()) {
    task.history.Edit().audit_of = m.audit_of;
  }
  const Task& added = tasks_.Add(std::move(task));
  ++groups_.at(m.group).num_tasks;
  Enter(added);
  Cover(added);
}

void State::On(const LeaseGranted& m) {
  Task& task = tasks_.at(m.task);
  // DecideLease made sure; an epoch is granted once.
  QSWEEP_CHECK(task.state == v1::TASK_STATE_READY && !task.lease &&
               m.epoch == task.epoch().Next());
  Worker& worker = workers_.at(m.worker);
  TaskHistory& history = task.history.Edit();
  history.grants.push_back({.worker = m.worker, .credential = m.credential});
  history.reason.clear();
  task.lease = Lease{.worker = m.worker,
                     .session = m.session,
                     .granted_at = m.now,
                     .deadline = m.deadline,
                     .progress_at = m.now};
  worker.leases.insert(m.task);
  worker.holder = m.job;
  Move(task, v1::TASK_STATE_LEASED);
}

void State::On(const LeaseEnded& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(task.lease && m.epoch == task.epoch());
  EndLease(task, m.end, m.held);
  TaskHistory& history = task.history.Edit();
  history.failed += m.end == LeaseEnd::kFailed || m.end == LeaseEnd::kStalled;
  history.lost += m.end == LeaseEnd::kLost;
  history.preempted += m.end == LeaseEnd::kPreempted;
  history.reason = m.reason;
  history.backoff =
      m.to == v1::TASK_STATE_BACKOFF ? m.backoff : absl::ZeroDuration();
  history.ready_at = m.now + history.backoff;
  Move(task, m.to);
}

void State::On(const TaskStateChanged& m) {
  Task& task = tasks_.at(m.task);
  QSWEEP_CHECK(!task.lease && task.state != v1::TASK_STATE_DONE &&
               m.to != v1::TASK_STATE_LEASED && m.to != v1::TASK_STATE_DONE);
  TaskHistory& history = task.history.Edit();
  if (m.new_budgets) {
    history.failed = history.lost = history.preempted = 0;
  }
  history.reason = m.reason;
  history.backoff = absl::ZeroDuration();
  Move(task, m.to);
}

void State::On(const TaskForgotten& m) { Forget(m.task); }

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
  TaskHistory& history = task.history.Edit();
  history.grants[static_cast<size_t>(m.epoch.value() - 1)].end =
      LeaseEnd::kCommitted;
  history.num_documents = task.num_documents();
  history.result_digest = m.payload_digest;
  history.result_epoch = m.epoch;
  history.reason.clear();
  history.backoff = absl::ZeroDuration();
  Move(task, v1::TASK_STATE_DONE);
  task.documents.clear();
  for (const JobNumber number : task.jobs) {
    Job& job = jobs_.at(number);
    job.measurements_done += job.tasks.at(m.task);
  }
  for (const auto& [number, skipped] : m.documents_skipped) {
    jobs_.at(number).documents_skipped = skipped;
  }
  speeds_.Add(m.speed);
  if (const auto worker = workers_.find(m.worker); worker != workers_.end()) {
    if (++worker->second.tasks_done % kTasksPerPardon == 0 &&
        worker->second.blamed > 0) {
      --worker->second.blamed;
    }
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
  lease.run_deadline = m.run_deadline;
  lease.progress_limit = m.progress_limit;
  lease.commit_deadline = m.commit_deadline;
  if (lease.progress.phase() == v1::TASK_PHASE_RUN) {
    workers_.at(lease.worker).loaded = groups_.at(task.group).model_digest;
  }
}

SpeedSample MakeSpeedSample(const TaskGroup& group, double estimated_seconds,
                            const std::vector<v1::Device>& devices,
                            const v1::TaskReport& report,
                            std::optional<absl::Duration> held) {
  SpeedSample sample{.model = group.model_digest,
                     .operation = group.evaluation_name,
                     .device = DeviceType(devices)};
  // Two machines' clocks may run a little apart.
  if (!held || report.load_seconds() + report.run_seconds() >
                   1 + 1.01 * absl::ToDoubleSeconds(*held)) {
    return sample;
  }
  sample.load_seconds = report.load_seconds();
  const double computed = report.run_seconds() - report.weight_seconds();
  if (computed > 0) {
    const v1::TaskSpec& prototype = *group.prototype;
    sample.gflops = (estimated_seconds - ReadingSeconds(prototype)) *
                    prototype.estimated_gflops() / computed;
    sample.weight_bandwidth = report.weight_seconds() > 0
                                  ? static_cast<double>(report.weight_bytes()) /
                                        report.weight_seconds()
                                  : 0;
  }
  return sample;
}

double ReadingSeconds(const v1::TaskSpec& prototype) {
  return prototype.estimated_weight_bandwidth() > 0
             ? static_cast<double>(prototype.weight_bytes()) /
                   prototype.estimated_weight_bandwidth()
             : 0;
}

std::string DeviceType(const std::vector<v1::Device>& devices) {
  if (devices.empty()) {
    return "";
  }
  const v1::Device& device = devices.front();
  return device.name().empty() ? device.kind() : device.name();
}

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
    if (absl::StrContains(c.layer_set(), kKeepsLargest)) {
      group.methods.insert(kKeepsLargest);
    }
  }
  return group;
}

}  // namespace qsweep
