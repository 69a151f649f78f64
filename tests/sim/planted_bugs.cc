#include "tests/sim/planted_bugs.h"

#include <optional>
#include <utility>

#include "common/base/planted.h"

namespace qsweep {
namespace {

std::optional<Bug> planted;

constexpr std::pair<const char*, Bug> kNames[] = {
    {"synchronous-normal", Bug::kSynchronousNormal},
    {"acknowledge-before-commit", Bug::kAcknowledgeBeforeCommit},
    {"commit-without-epoch", Bug::kCommitWithoutEpoch},
    {"deadlines-on-wall-clock", Bug::kDeadlinesOnWallClock},
    {"requeue-on-stream-loss", Bug::kRequeueOnStreamLoss},
    {"preemption-charged", Bug::kPreemptionCharged},
    {"fit-ignores-memory", Bug::kFitIgnoresMemory},
    {"measurements-not-unique", Bug::kMeasurementsNotUnique},
    {"second-writer", Bug::kSecondWriter},
    {"bad-request-poisons-batch", Bug::kBadRequestPoisonsBatch},
    {"backup-in-steps", Bug::kBackupInSteps},
    {"heartbeat-on-compute-thread", Bug::kHeartbeatOnComputeThread},
    {"unbounded-watch-buffer", Bug::kUnboundedWatchBuffer},
};

}  // namespace

bool Planted(Bug bug) { return planted == bug; }

namespace sim {

bool PlantBug(absl::string_view name) {
  for (const auto& [known, bug] : kNames) {
    if (name == known) {
      planted = bug;
      return true;
    }
  }
  return false;
}

std::vector<std::string> BugNames() {
  std::vector<std::string> names;
  for (const auto& [name, bug] : kNames) {
    names.emplace_back(name);
  }
  return names;
}

}  // namespace sim
}  // namespace qsweep
