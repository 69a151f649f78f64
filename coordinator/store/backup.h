#ifndef QSWEEP_COORDINATOR_STORE_BACKUP_H_
#define QSWEEP_COORDINATOR_STORE_BACKUP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace qsweep {

// Copies of a coordinator's database, made while it serves.

struct BackupInfo {
  std::string path;  // absolute
  int64_t bytes = 0;
  std::vector<std::string> removed;  // older ones, paths
};

// Writes DIR/backups/coordinator-<time>.db, checks the copy, syncs it and keeps
// the newest `keep` (at least 1). In one shot and from a read-only connection:
// a backup in steps starts anew with every commit between two steps and may
// never end. Blocks for as long as the copy takes; the writer goes on.
// time: of the backup, for its name. RESOURCE_EXHAUSTED QS4004: the disk is
// full. DATA_LOSS QS4006: the copy is damaged, nothing was kept.
absl::StatusOr<BackupInfo> BackUpDatabase(const std::string& directory,
                                          absl::Time time, int keep);

// What SQLite finds wrong with a database file, a sentence each: pages, indexes
// and references between tables. Empty: it is sound. DATA_LOSS QS4006: it
// cannot be read at all. FAILED_PRECONDITION QS4005: of a newer version.
absl::StatusOr<std::vector<std::string>> FindDatabaseProblems(
    const std::string& path);

// Puts a backup in the place of the directory's database, which stays beside it
// as coordinator.db.replaced-<time>. Nothing happens unless the backup is
// sound. FAILED_PRECONDITION QS4003: a coordinator runs on the directory.
// NOT_FOUND QS4007: no such backup. QS4005, QS4006 as above.
absl::Status RestoreDatabase(const std::string& directory,
                             const std::string& backup, absl::Time time);

// Does what a restore had left when it was killed between its renames. Whether
// there was something to do. The caller has DIR's lock.
absl::StatusOr<bool> FinishRestore(const std::string& directory);

// DATA_LOSS QS4006: the database is gone, though one that a restore replaced is
// there; an empty one in its place would look as if all was lost.
absl::Status RefuseMissingDatabase(const std::string& directory);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_BACKUP_H_
