// Which worker can run a task at all; whose turn it is: policy.cc.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/planted.h"
#include "coordinator/core/estimate.h"
#include "coordinator/core/policy.h"

namespace qsweep {
namespace {

template <typename Repeated>
bool Lists(const Repeated& values, const std::string& wanted) {
  return std::ranges::find(values, wanted) != values.end();
}

// Of its largest device; 0: not said.
uint64_t MemoryOf(const Worker& worker) {
  uint64_t memory = 0;
  for (const v1::Device& device : worker.devices) {
    memory = std::max(memory, device.memory_bytes());
  }
  return memory;
}

// Whether the worker made the result that the task checks.
bool MadeAudited(const State& state, const Task& task,
                 const WorkerUuid& worker) {
  const Task* audited = state.FindTask(task.history->audit_of);
  return audited != nullptr && audited->history->result_epoch.valid() &&
         audited->history
                 ->grants[static_cast<size_t>(
                     audited->history->result_epoch.value() - 1)]
                 .worker == worker;
}

bool FailedOn(const Task& task, const WorkerUuid& worker) {
  return std::ranges::any_of(task.history->grants,
                             [&worker](const Grant& grant) {
                               return grant.worker == worker && grant.failed();
                             });
}

}  // namespace

double InGib(uint64_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024 * 1024);
}

bool IsForOthers(const State& state, const Task& task, const Worker& worker,
                 const Settings& settings) {
  if (task.history->failed == 0 && !task.history->audit_of.valid()) {
    return false;
  }
  const auto shuns = [&](const WorkerUuid& uuid) {
    return FailedOn(task, uuid) || MadeAudited(state, task, uuid);
  };
  return shuns(worker.uuid) &&
         std::ranges::any_of(state.workers(), [&](const auto& entry) {
           return !shuns(entry.first) &&
                  MayRun(state, task, entry.second, settings);
         });
}

std::vector<std::string> WhyNotFit(const State& state, const Task& task,
                                   const Worker& worker,
                                   const Settings& settings) {
  std::vector<std::string> reasons;
  if (worker.liveness != WorkerLiveness::kLive || worker.hello == nullptr ||
      worker.state == nullptr) {
    reasons.push_back("the worker is not attached");
    return reasons;
  }
  if (worker.mode == WorkerMode::kQuarantined) {
    reasons.push_back(
        absl::StrCat("the worker is quarantined: ", worker.mode_reason));
  }
  if (worker.mode == WorkerMode::kDraining || worker.state->draining() ||
      worker.state->goodbye()) {
    reasons.push_back("the worker takes no new task");
  }
  const TaskGroup& group = state.group(task.group);
  if (!Lists(worker.hello->evaluations(), group.evaluation_name)) {
    reasons.push_back(absl::StrCat("the worker's engine does not have ",
                                   group.evaluation_name));
  }
  for (const std::string& method : group.methods) {
    if (!Lists(worker.hello->methods(), method)) {
      reasons.push_back(
          absl::StrCat("the worker's engine does not have ", method));
    }
  }
  const uint64_t memory = MemoryOf(worker);
  if (memory > 0 && group.prototype->memory_bytes() > memory &&
      !Planted(Bug::kFitIgnoresMemory)) {
    reasons.push_back(
        absl::StrFormat("it needs %.1f GiB of memory, the worker has %.1f GiB",
                        InGib(group.prototype->memory_bytes()), InGib(memory)));
  }
  const auto lifetime_left = absl::Milliseconds(
      static_cast<int64_t>(worker.state->lifetime_left_ms()));
  if (lifetime_left > absl::ZeroDuration()) {
    const Expected expected = ExpectedOn(state, task, worker, settings);
    if (expected.run + expected.load > lifetime_left) {
      reasons.push_back(absl::StrFormat(
          "the worker ends in %.0f s; nine in ten times the task takes up to "
          "%.0f s there, and %.0f s before to load the model",
          absl::ToDoubleSeconds(lifetime_left),
          absl::ToDoubleSeconds(expected.run),
          absl::ToDoubleSeconds(expected.load)));
    }
  }
  return reasons;
}

}  // namespace qsweep
