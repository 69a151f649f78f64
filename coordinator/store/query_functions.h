#ifndef QSWEEP_COORDINATOR_STORE_QUERY_FUNCTIONS_H_
#define QSWEEP_COORDINATOR_STORE_QUERY_FUNCTIONS_H_

#include "absl/status/status.h"

#include "coordinator/store/sqlite.h"

namespace qsweep {

// Replaces instr, replace, and trim, ltrim and rtrim with a set of characters,
// on this connection, by ones that take a time in proportion to the sizes of
// their arguments. SQLite's take one in proportion to the product, half an hour
// for two megabytes, in which no deadline is looked at. Same results, but for
// text that is no UTF-8.
absl::Status InstallLinearFunctions(Database& database);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_QUERY_FUNCTIONS_H_
