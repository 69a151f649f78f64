#ifndef QSWEEP_COORDINATOR_STORE_DATABASE_FILE_H_
#define QSWEEP_COORDINATOR_STORE_DATABASE_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace qsweep {

// An exclusive flock on a side file: SQLite 3.40 may corrupt a WAL that two
// connections write, so a second coordinator must never get that far. Held
// until destroyed; the kernel drops it when the process dies.
class FileLock {
 public:
  // FAILED_PRECONDITION QS4003: another process, or another FileLock of this
  // one, holds it. PERMISSION_DENIED, NOT_FOUND: the file cannot be made.
  static absl::StatusOr<FileLock> Acquire(const std::string& path);

  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

// Disk space kept aside, so that results can still be committed when the disk
// is full.
class Reserve {
 public:
  virtual ~Reserve() = default;
  // Takes the space, unless it is taken. False: no room, nothing is taken.
  virtual bool Take() = 0;
  // Gives it back.
  virtual void Free() = 0;
};

// min(kMaxBytes, an eighth of the file system) in a file, which outlives the
// process.
class ReserveFile : public Reserve {
 public:
  static constexpr int64_t kMaxBytes = int64_t{64} << 20;

  explicit ReserveFile(std::string path) : path_(std::move(path)) {}
  bool Take() override;
  void Free() override;

 private:
  const std::string path_;
};

// Opens the file for the one connection that writes and checkpoints: pragmas,
// recovery of the WAL, a TRUNCATE checkpoint, quick_check, migrations. New
// files are readable by their owner only. An older database is first copied to
// <path>.v<its version>-<time>, unless it is in a vfs. FAILED_PRECONDITION
// QS4005: a newer database. DATA_LOSS QS4006: damaged, or not qsweep's. Else as
// Database::Open. A file that is refused for its version stays as it is.
// check_pages: false leaves quick_check to the caller, unless it migrates.
absl::StatusOr<Database> OpenWriter(
    const std::string& path, const std::string& vfs = "",
    bool check_pages = true, Migrations migrations = CurrentMigrations());

// PRAGMA quick_check. DATA_LOSS QS4006: the file is damaged.
absl::Status CheckPages(Database& database, const std::string& path);

// fsync of a file or a folder, and rename.
absl::Status SyncPath(const std::string& path);
absl::Status RenamePath(const std::string& from, const std::string& to);

// Opens the file for reading only. It can neither write nor checkpoint.
absl::StatusOr<Database> OpenReader(const std::string& path,
                                    const std::string& vfs = "");

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_DATABASE_FILE_H_
