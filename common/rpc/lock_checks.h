#ifndef QSWEEP_COMMON_RPC_LOCK_CHECKS_H_
#define QSWEEP_COMMON_RPC_LOCK_CHECKS_H_

namespace qsweep {

// Debian's Abseil is built with its search for lock cycles: every lock of gRPC
// goes through one global graph, which costs processor time on each message and
// memory for each connection. Switches it off in this process. Before gRPC is
// used; thread-safe, and no effect after the first call.
void DisableGrpcLockChecks();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_LOCK_CHECKS_H_
