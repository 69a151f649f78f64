// Who may have a lease, and why it may end.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/policy.h"
#include "tests/sim/oracles.h"

namespace qsweep::sim {
namespace {

constexpr uint64_t kCreditsMax = 2;  // of an agent
// Between a deadline and the step that carries it out: the disk may be slow.
constexpr absl::Duration kSlack = absl::Seconds(10);

template <typename Repeated>
bool Contains(const Repeated& values, const std::string& wanted) {
  return std::ranges::find(values, wanted) != values.end();
}

// Different workers that lost it, the one that has it among them.
size_t LosersOf(const Task& task) {
  std::set<WorkerUuid> workers = {task.lease->worker};
  for (const Grant& grant : task.history->grants) {
    if (grant.end == LeaseEnd::kLost) {
      workers.insert(grant.worker);
    }
  }
  return workers.size();
}

}  // namespace

void Oracles::OnDesired(uint64_t link, const v1::DesiredState& desired) {
  for (const v1::DesiredLease& lease : desired.leases()) {
    const auto it = talks_.find({TaskId(static_cast<int64_t>(lease.task_id())),
                                 Epoch(static_cast<int64_t>(lease.epoch()))});
    if (it == talks_.end()) {
      Fail(2, absl::StrCat("task ", lease.task_id(), " epoch ", lease.epoch(),
                           " was sent before it was written"));
    } else {
      it->second.sent.emplace(link, desired.state_seq());
    }
  }
}

void Oracles::OnReport(uint64_t link, const WorkerUuid& worker,
                       const v1::WorkerState& report) {
  reports_.push_back({worker, report});
  for (auto& [key, talk] : talks_) {
    if (talk.worker != worker) {
      continue;
    }
    const bool listed = std::ranges::any_of(report.held(), [&](const auto& h) {
      return h.task_id() == static_cast<uint64_t>(key.first.value()) &&
             h.epoch() == static_cast<uint64_t>(key.second.value());
    });
    if (listed) {
      continue;
    }
    const auto sent = talk.sent.find(link);
    talk.given_up |= report.has_hello() || (sent != talk.sent.end() &&
                                            report.ack_seq() >= sent->second);
    talk.goodbye |= report.goodbye();
  }
}

void Oracles::OnRelease(const v1::ReleaseTaskRequest& request) {
  const auto it = talks_.find({TaskId(static_cast<int64_t>(request.task_id())),
                               Epoch(static_cast<int64_t>(request.epoch()))});
  if (it != talks_.end() && !it->second.release) {
    it->second.release = request;
  }
}

// Which reports counted is the coordinator's business: the last one it knows
// of, and those before it in the session.
void Oracles::Accept(const State& state, const Report& report) {
  const Worker* worker = state.FindWorker(report.worker);
  if (worker == nullptr || worker->state == nullptr ||
      worker->seen_at != schedule_.now() ||
      worker->state->session_id() != report.report.session_id() ||
      worker->state->beat_seq() < report.report.beat_seq() ||
      (report.report.has_hello() &&
       worker->boot.bytes() != report.report.hello().boot_id())) {
    return;
  }
  // One that a later report overtook in this very step did not count.
  auto& [session, beat] = heard_[report.worker];
  if (!report.report.has_hello() && session == report.report.session_id() &&
      report.report.beat_seq() <= beat) {
    return;
  }
  session = report.report.session_id();
  beat = report.report.beat_seq();
  for (const v1::HeldTask& held : report.report.held()) {
    const auto it = talks_.find({TaskId(static_cast<int64_t>(held.task_id())),
                                 Epoch(static_cast<int64_t>(held.epoch()))});
    if (it == talks_.end() || it->second.worker != report.worker) {
      continue;
    }
    Talk& talk = it->second;
    talk.listed_at = schedule_.now();
    if (held.progress().progress_seq() > talk.progress.progress_seq() ||
        held.progress().phase() != talk.progress.phase()) {
      talk.progress_at = schedule_.now();
    }
    talk.progress = held.progress();
  }
}

SteadyTime Oracles::ExpiryOf(const Talk& talk) const {
  SteadyTime expiry =
      std::max(talk.granted_at, talk.listed_at) + settings_.lease_ttl;
  if (talk.loads < loads_ && talk.listed_at <= loaded_at_) {
    expiry = loaded_at_ + settings_.failover_ttl;
  }
  return expiry;
}

void Oracles::CheckOverdue(const State& state) {
  for (const TaskId id : state.leased_tasks()) {
    const Task& task = state.task(id);
    const auto it = talks_.find({id, task.epoch()});
    if (it != talks_.end() && ExpiryOf(it->second) + kSlack < schedule_.now()) {
      Fail(5, absl::StrCat("task ", id.value(), " epoch ", task.epoch().value(),
                           " is leased although its worker is silent"));
    }
  }
}

void Oracles::Check(const LeaseGranted& m) {
  const Task& task = durable_.task(m.task);
  const std::string name =
      absl::StrCat("task ", m.task.value(), " epoch ", m.epoch.value());
  CheckMove(task, v1::TASK_STATE_LEASED);
  if (m.epoch != task.epoch().Next()) {
    Fail(10, absl::StrCat(name, " follows epoch ", task.epoch().value()));
    return;
  }
  const Worker* worker = durable_.FindWorker(m.worker);
  if (worker == nullptr || worker->leases.size() >= kCreditsMax) {
    Fail(6, absl::StrCat(name, " went to a worker without credit"));
    return;
  }
  if (durable_.job(m.job).terminal() || cancelled_.contains(m.job)) {
    Fail(17, absl::StrCat(name, " was leased for job ", m.job.value(),
                          ", which has ended"));
  }
  if (durable_.job(m.job).state == v1::JOB_STATE_PLANNING) {
    Fail(9, absl::StrCat(name, " was leased for job ", m.job.value(),
                         ", whose plan is not whole"));
  }
  if (revoked_.contains(m.credential)) {
    Fail(20, absl::StrCat(name, " went to a worker whose token is revoked"));
  }
  if (worker->mode != WorkerMode::kOpen) {
    Fail(12, absl::StrCat(name, " went to a worker that is ",
                          WorkerModeName(worker->mode)));
  }
  const TaskGroup& group = durable_.group(task.group);
  if (worker->hello == nullptr ||
      !Contains(worker->hello->evaluations(), group.evaluation_name)) {
    Fail(12, absl::StrCat(name, " went to a worker without ",
                          group.evaluation_name));
  }
  if (worker->hello != nullptr) {
    CheckFit(name, task, *worker);
  }
  for (const std::string& gpu : durable_.job(m.job).require.gpus()) {
    if (worker->devices.empty() ||
        !absl::EndsWith(worker->devices.front().name(), gpu)) {
      Fail(12, absl::StrCat(name, " went to a worker without the ", gpu,
                            " that its job asks for"));
    }
  }
  talks_[{m.task, m.epoch}] = {.worker = m.worker,
                               .loads = loads_,
                               .granted_at = schedule_.now(),
                               .listed_at = schedule_.now(),
                               .progress_at = schedule_.now()};
  spans_[m.worker].push_back(
      {.lease = {m.task, m.epoch}, .begin = written_at_});
  fairness_.OnGranted(m);
}

// In fp32: three layers, or one tensor outside of them.
void Oracles::OnModel(const v1::ModelDescription& model) {
  std::map<int, uint64_t> of_layer;
  uint64_t most = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    uint64_t bytes = 4;
    for (const uint64_t size : tensor.shape()) {
      bytes *= size;
    }
    uint64_t& layer = of_layer[tensor.layer()];
    layer += bytes;
    most = std::max(most, tensor.layer() < 0 ? bytes : 3 * layer);
  }
  memory_of_[model.digest()] = most;
}

// Memory, methods and what is left of the worker's life.
void Oracles::CheckFit(const std::string& name, const Task& task,
                       const Worker& worker) {
  const v1::TaskSpec& spec = *durable_.group(task.group).prototype;
  const uint64_t memory = worker.hello->devices(0).memory_bytes();
  const auto needed = memory_of_.find(spec.model_digest());
  counts_.checks.Add("model that fits into small memory",
                     memory < (uint64_t{1} << 20));
  if (needed == memory_of_.end() || needed->second > memory) {
    Fail(12, absl::StrCat(name, " went to a worker with ", memory,
                          " bytes of memory"));
  }
  const int methods = worker.hello->methods_size();
  counts_.checks.Add("task of a worker with one method", methods == 1);
  for (const v1::ConfigurationSpec& configuration : spec.configurations()) {
    const std::string method = configuration.quantizer().substr(
        0, configuration.quantizer().find(':'));
    if (method != "fp" && !Contains(worker.hello->methods(), method)) {
      Fail(12, absl::StrCat(name, " went to a worker without ", method));
    }
  }
  const auto reported = reported_.find(worker.uuid);
  if (reported == reported_.end()) {
    return;
  }
  const v1::WorkerState& report = *reported->second;
  const uint64_t left_ms = report.lifetime_left_ms();
  const bool loaded =
      std::ranges::any_of(report.models(), [&spec](const auto& model) {
        return model.digest() == spec.model_digest() &&
               model.level() == v1::ResidentModel::LEVEL_MEMORY;
      });
  if (left_ms == 0 || loaded) {
    return;
  }
  counts_.checks.Add("load within a worker's life");
  // Running takes a simulated model no time.
  const double load = ExpectedLoad(spec.model_digest(), worker);
  if (load * 1000 > static_cast<double>(left_ms)) {
    Fail(12,
         absl::StrCat(name, " went to a worker that ends in ", left_ms,
                      " ms, before it has loaded the model in ", load, " s"));
  }
}

// What nine in ten of the newest 32 loads took.
double Oracles::ExpectedLoad(const std::string& model,
                             const Worker& worker) const {
  const auto it = loads_of_.find(
      {*Digest::FromBytes(model), worker.hello->devices(0).name()});
  if (it == loads_of_.end() || it->second.size() < 3) {
    return absl::ToDoubleSeconds(settings_.default_load);
  }
  const std::vector<double>& all = it->second;
  std::vector<double> newest(all.size() > 32 ? all.end() - 32 : all.begin(),
                             all.end());
  std::ranges::sort(newest);
  return newest[static_cast<size_t>(
      0.9 * static_cast<double>(newest.size() - 1) + 0.5)];
}

// Nothing is learned of times in which the lease was not held.
void Oracles::CheckSpeed(const ResultCommitted& m, const Task& task) {
  const v1::TaskReport& report = m.report;
  const auto talk = talks_.find({m.task, m.epoch});
  const double most =
      talk == talks_.end()
          ? 0
          : 2 + 1.01 * absl::ToDoubleSeconds(schedule_.now() -
                                             talk->second.granted_at);
  const bool learned = m.speed.gflops > 0 || m.speed.load_seconds > 0 ||
                       m.speed.weight_bandwidth > 0;
  if (learned && (talk == talks_.end() ||
                  report.load_seconds() + report.run_seconds() > most)) {
    Fail(3, absl::StrCat("task ", task.id.value(), " epoch ", m.epoch.value(),
                         " taught a speed in time that it did not have"));
  }
  counts_.checks.Add("no speed of times that were not",
                     report.run_seconds() > 1e6);
  if (m.speed.load_seconds > 0) {
    loads_of_[{m.speed.model, m.speed.device}].push_back(m.speed.load_seconds);
  }
}

void Oracles::Check(const LeaseEnded& m) {
  const Task& task = durable_.task(m.task);
  CheckMove(task, m.to);
  const auto it = talks_.find({m.task, m.epoch});
  if (it == talks_.end() || !task.lease || m.epoch != task.epoch()) {
    Fail(10, absl::StrCat("task ", m.task.value(), " epoch ", m.epoch.value(),
                          " ended but is not held"));
    return;
  }
  CheckEndReason(m, it->second);
  CheckBudgets(m, task, it->second);
  CheckCharge({m.task, m.epoch}, task.lease->worker, m.held);
  talks_.erase(it);
}

void Oracles::CheckEndReason(const LeaseEnded& m, const Talk& talk) {
  const std::string name =
      absl::StrCat("task ", m.task.value(), " epoch ", m.epoch.value(),
                   " ended as ", LeaseEndName(m.end), " ");
  const SteadyTime now = schedule_.now();
  const auto released = [&talk](auto... reasons) {
    return talk.release && ((talk.release->reason() == reasons) || ...);
  };
  switch (m.end) {
    case LeaseEnd::kLost:
      if (now < ExpiryOf(talk) && !talk.given_up) {
        Fail(5, name + "while its worker held it");
      }
      break;
    case LeaseEnd::kPreempted:
      if (!talk.goodbye &&
          !released(v1::RELEASE_REASON_PREEMPTED, v1::RELEASE_REASON_DRAINED)) {
        Fail(14, name + "and its worker said nothing");
      }
      break;
    case LeaseEnd::kFailed:
      if (!released(v1::RELEASE_REASON_FAILED)) {
        Fail(14, name + "and its worker did not say so");
      }
      break;
    case LeaseEnd::kStalled:
      if (!released(v1::RELEASE_REASON_STALLED) &&
          now < std::max(talk.progress_at,
                         talk.loads < loads_ ? loaded_at_ : SteadyTime()) +
                    settings_.progress_deadline) {
        Fail(14, name + "and it was not");
      }
      break;
    case LeaseEnd::kCancelled:
    case LeaseEnd::kCommitted:
    case LeaseEnd::kSuperseded:
      break;
  }
}

void Oracles::CheckBudgets(const LeaseEnded& m, const Task& task,
                           const Talk& talk) {
  auto& [failed, lost] = charged_[m.task];
  const std::string name = absl::StrCat(
      "task ", m.task.value(), " after ", failed, " failed and ", lost,
      " lost attempts, now ", LeaseEndName(m.end), ", is ", ShortName(m.to));
  failed += m.end == LeaseEnd::kFailed || m.end == LeaseEnd::kStalled;
  lost += m.end == LeaseEnd::kLost;
  const bool audit = task.history->audit_of.valid();
  const bool final_failure = m.end == LeaseEnd::kFailed && talk.release &&
                             !talk.release->failure().retryable();
  const bool spent = m.end == LeaseEnd::kLost
                         ? lost >= settings_.lost_budget
                         : failed >= settings_.failed_budget || final_failure;
  switch (m.end) {
    case LeaseEnd::kPreempted:
      if (m.to != v1::TASK_STATE_READY &&
          m.to != v1::TASK_STATE_CANCELLED) {  // its jobs stop
        Fail(14, name);
      }
      break;
    case LeaseEnd::kLost:  // also on enough different workers
      if (m.to == v1::TASK_STATE_QUARANTINED && (!spent || audit)) {
        Fail(14, name);
      }
      if (spent && LosersOf(task) >= 3) {
        counts_.checks.Add("task lost on three workers");
        if (m.to == v1::TASK_STATE_BACKOFF) {
          Fail(14, name);
        }
      }
      break;
    case LeaseEnd::kFailed:
    case LeaseEnd::kStalled:
      // An audit that is given up fails no job.
      if (audit ? m.to == v1::TASK_STATE_QUARANTINED ||
                      (spent && m.to != v1::TASK_STATE_CANCELLED)
                : (m.to == v1::TASK_STATE_QUARANTINED) != spent) {
        Fail(14, name);
      }
      break;
    default:
      break;
  }
  if (task.history->failed != failed - (m.end == LeaseEnd::kFailed ||
                                        m.end == LeaseEnd::kStalled) ||
      task.history->lost != lost - (m.end == LeaseEnd::kLost)) {
    Fail(14, absl::StrCat(name, " but is charged ", task.history->failed,
                          " and ", task.history->lost));
  }
}

}  // namespace qsweep::sim
