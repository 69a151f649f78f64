#ifndef QSWEEP_COORDINATOR_STORE_STATE_LOADER_H_
#define QSWEEP_COORDINATOR_STORE_STATE_LOADER_H_

#include "absl/status/statusor.h"

#include "coordinator/core/state.h"
#include "coordinator/store/statement_cache.h"

namespace qsweep {

// Reads everything State is made of. The inverse of MutationWriter: what it
// returns equals the state that applied the same mutations, deadlines aside.
// DATA_LOSS QS4006: a value qsweep never writes, or rows that do not fit each
// other. Else as Statement::Step.
absl::StatusOr<StateSnapshot> LoadState(StatementCache& statements);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_STATE_LOADER_H_
