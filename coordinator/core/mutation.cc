#include "coordinator/core/mutation.h"

#include <type_traits>

namespace qsweep {

absl::string_view LeaseEndName(LeaseEnd end) {
  switch (end) {
    case LeaseEnd::kCommitted:
      return "committed";
    case LeaseEnd::kSuperseded:
      return "superseded";
    case LeaseEnd::kFailed:
      return "failed";
    case LeaseEnd::kStalled:
      return "stalled";
    case LeaseEnd::kLost:
      return "lost";
    case LeaseEnd::kPreempted:
      return "preempted";
    case LeaseEnd::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

absl::string_view WorkerModeName(WorkerMode mode) {
  switch (mode) {
    case WorkerMode::kOpen:
      return "open";
    case WorkerMode::kDraining:
      return "draining";
    case WorkerMode::kQuarantined:
      return "quarantined";
  }
  return "unknown";
}

bool IsDurable(const Mutation& mutation) {
  return std::visit(
      [](const auto& m) {
        using T = std::decay_t<decltype(m)>;
        return !(std::is_same_v<T, WorkerReported> ||
                 std::is_same_v<T, WorkerLivenessChanged> ||
                 std::is_same_v<T, LeaseRenewed> ||
                 std::is_same_v<T, JobWaits> ||
                 std::is_same_v<T, WorkerInformed>);
      },
      mutation);
}

}  // namespace qsweep
