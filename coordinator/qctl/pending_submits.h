#ifndef QSWEEP_COORDINATOR_QCTL_PENDING_SUBMITS_H_
#define QSWEEP_COORDINATOR_QCTL_PENDING_SUBMITS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/base/ids.h"
#include "coordinator/qctl/environment.h"

namespace qsweep::qctl {

// Job UUIDs of submits whose answer has not come: a file per digest of what is
// submitted. It is on disk before the request leaves, so that the same spec
// sent again after a crash or a lost connection is the same job.
class PendingSubmits {
 public:
  // In $XDG_STATE_HOME/qsweep/submits, else ~/.local/state/qsweep/submits.
  explicit PendingSubmits(const Environment& environment);

  // The UUID kept for this digest.
  std::optional<JobUuid> Find(const Digest& digest) const;
  // Keeps it, durably. QS7002: cannot write.
  absl::Status Keep(const Digest& digest, const JobUuid& uuid) const;
  // The answer has come. Nothing to forget is fine.
  void Forget(const Digest& digest) const;

 private:
  std::string PathOf(const Digest& digest) const;

  const std::string dir_;
};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_PENDING_SUBMITS_H_
