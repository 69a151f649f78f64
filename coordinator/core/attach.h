#ifndef QSWEEP_COORDINATOR_CORE_ATTACH_H_
#define QSWEEP_COORDINATOR_CORE_ATTACH_H_

#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// The control protocol, level-triggered: each WorkerState is the worker's
// whole small state, each DesiredState all that it should hold, so loss,
// repeats and reordering are harmless. docs/protocol.md.

// Versions of the protocol, both ends included.
struct ProtocolRange {
  uint32_t min = 0;
  uint32_t max = 0;
};
inline constexpr ProtocolRange kProtocols = {.min = 1, .max = 1};

// The newest version that both sides speak. FAILED_PRECONDITION QS6003: none.
absl::StatusOr<uint32_t> CommonProtocol(const v1::Hello& hello,
                                        ProtocolRange ours = kProtocols);

// A lease of the worker that ended without a result; the loop carries each out
// with DecideLeaseEnd, one after the other.
struct EndedLease {
  TaskId task;
  LeaseEnd end = LeaseEnd::kLost;
  std::string reason;
};

struct AttachReply {
  WorkerUuid worker;
  std::vector<EndedLease> ended;
};

// One message of a worker. With a hello it opens `new_session`, which replaces
// the worker's session before; without, it reports of the session it names.
// Renews every lease it lists. A lease it does not list has ended when the
// worker has seen the DesiredState that carried it, is a new process, or says
// goodbye. A beat_seq that is not higher is ignored: no mutation.
//   FAILED_PRECONDITION QS6003  no common protocol version
//   ABORTED QS5010              a newer process or session has this worker_uuid
//   NOT_FOUND QS5011            session not known: say hello again
//   PERMISSION_DENIED QS6002    the worker_uuid is live with another credential
//   INVALID_ARGUMENT QS1004     ids that are not 16 bytes, or what
//                               CheckWorkerState refuses
Decision<AttachReply> DecideWorkerState(
    const State& state, const std::string& credential,
    std::shared_ptr<const v1::WorkerState> report, const SessionId& new_session,
    const Settings& settings, const Now& now);

// All that the worker should hold now. Apply WorkerInformed{worker, state_seq
// of the result} when it is sent. A Welcome is included until the worker names
// its session, a spec until it lists the task.
v1::DesiredState MakeDesiredState(const State& state, const Worker& worker,
                                  const Settings& settings);

// The worker's stream ended. Only its silence for lease_ttl costs it leases.
std::vector<Mutation> DecideDetach(const State& state,
                                   const SessionId& session);

// LOST once its deadline has passed. Its time is added to the ledger then, and
// once in a while. Nothing due: empty.
std::vector<Mutation> DecideWorkerTimeout(const State& state,
                                          const WorkerUuid& worker,
                                          const Settings& settings,
                                          const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_ATTACH_H_
