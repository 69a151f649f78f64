#ifndef QSWEEP_COORDINATOR_STORE_SQLITE_STORE_H_
#define QSWEEP_COORDINATOR_STORE_SQLITE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "coordinator/store/database_file.h"
#include "coordinator/store/read_gate.h"
#include "coordinator/store/store.h"

namespace qsweep {

struct SqliteStoreOptions {
  // Exists. Holds coordinator.db, its WAL, coordinator.lock and
  // coordinator.reserve.
  std::string directory;
  // For simulations that cut power: the name of a registered VFS, which then
  // holds the database, and the space kept aside there. The directory is a name
  // only and is not locked.
  std::string vfs;
  std::unique_ptr<Reserve> reserve;
  // False: the file is not looked through, since nothing but its own process
  // can have damaged it. For simulations that kill many.
  bool check_pages = true;
  // That of the directory's readers; null: there are none.
  std::shared_ptr<ReadGate> read_gate;
};

// The path of the database in a directory, for readers.
std::string DatabasePath(const std::string& directory);

// The Store on SQLite, in WAL mode with synchronous=FULL. Owns the only
// connection that writes or checkpoints; DIR's lock is held until it is
// destroyed. Finishes a restore that was killed, recovers what a crash left,
// checks the pages and migrates.
// FAILED_PRECONDITION QS4003: another coordinator runs on the directory.
// FAILED_PRECONDITION QS4005, DATA_LOSS QS4006: as OpenWriter and
// RefuseMissingDatabase.
absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(
    SqliteStoreOptions options);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_SQLITE_STORE_H_
