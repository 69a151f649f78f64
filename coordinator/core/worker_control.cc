#include "coordinator/core/worker_control.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"
#include "coordinator/core/uuid_prefix.h"

namespace qsweep {
namespace {

template <typename Predicate>
std::vector<const Worker*> WorkersWhere(const State& state,
                                        Predicate predicate) {
  std::vector<const Worker*> found;
  for (const auto& [uuid, worker] : state.workers()) {
    if (predicate(worker)) {
      found.push_back(&worker);
    }
  }
  return found;
}

std::vector<const Worker*> WorkersByPrefix(const State& state,
                                           absl::string_view text) {
  const UuidPrefix prefix(text);
  if (!prefix.valid()) {
    return {};
  }
  return WorkersWhere(state, [&prefix](const Worker& worker) {
    return prefix.Fits(worker.uuid);
  });
}

}  // namespace

absl::StatusOr<WorkerUuid> ResolveWorker(const State& state,
                                         absl::string_view selector) {
  const absl::string_view text = absl::StripPrefix(selector, "worker/");
  std::vector<const Worker*> found = WorkersWhere(
      state, [text](const Worker& worker) { return worker.name == text; });
  if (found.empty()) {
    found = WorkersByPrefix(state, text);
  }
  if (found.empty()) {
    return MakeError(kWorkerNotFound, absl::StrCat("no worker '", text, "'"),
                     "worker", "List them with 'qctl workers list'.");
  }
  if (found.size() > 1) {
    std::erase_if(found, [](const Worker* worker) {
      return worker->liveness == WorkerLiveness::kLost;
    });
  }
  if (found.size() != 1) {
    return MakeError(
        kAmbiguousWorker, absl::StrCat("'", text, "' fits several workers"),
        "worker", "Give the UUID: 'qctl workers list -o wide' shows it.");
  }
  return found.front()->uuid;
}

Decision<WorkerUuid> DecideWorkerMode(const State& state,
                                      const WorkerUuid& uuid, WorkerMode mode,
                                      const std::string& reason, const Now& now,
                                      absl::Duration drain_deadline) {
  const Worker& worker = *state.FindWorker(uuid);
  if (worker.mode == mode && worker.drain_deadline == drain_deadline) {
    return {.reply = uuid};
  }
  Draft draft(state, now);
  draft.Add(WorkerModeChanged{.worker = uuid,
                              .mode = mode,
                              .reason = reason,
                              .drain_deadline = drain_deadline});
  draft.AddWorkerEvent({.kind = "worker_mode",
                        .from = std::string(WorkerModeName(worker.mode)),
                        .to = std::string(WorkerModeName(mode)),
                        .reason = reason,
                        .worker = worker.name});
  return {.mutations = draft.Take(), .reply = uuid};
}

void BlameWorkers(Draft& draft, const Task& task, const WorkerUuid& finisher,
                  const Settings& settings) {
  std::set<WorkerUuid> blamed;
  for (const Grant& grant : task.history->grants) {
    if (grant.failed() && grant.worker != finisher) {
      blamed.insert(grant.worker);
    }
  }
  for (const WorkerUuid& uuid : blamed) {
    const Worker* worker = draft.state().FindWorker(uuid);
    if (worker == nullptr) {
      continue;
    }
    draft.Add(WorkerBlamed{.worker = uuid, .task = task.id});
    if (worker->mode != WorkerMode::kOpen ||
        worker->blamed + 1 < settings.blame_limit) {
      continue;
    }
    const std::string reason = absl::StrCat(
        worker->blamed + 1, " tasks failed on it that other workers finished");
    draft.Add(WorkerModeChanged{
        .worker = uuid, .mode = WorkerMode::kQuarantined, .reason = reason});
    draft.AddWorkerEvent({.kind = "worker_mode",
                          .from = "open",
                          .to = "quarantined",
                          .reason = reason,
                          .worker = worker->name});
  }
}

}  // namespace qsweep
