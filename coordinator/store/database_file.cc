#include "coordinator/store/database_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <iterator>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "coordinator/store/schema.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

// All set explicitly: a default that changes between builds of SQLite must not
// change what "acknowledged" means.
constexpr const char* kWriterPragmas = R"sql(
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA foreign_keys=ON;
PRAGMA busy_timeout=5000;
PRAGMA wal_autocheckpoint=0;
PRAGMA journal_size_limit=67108864;
PRAGMA mmap_size=0;
PRAGMA temp_store=MEMORY;
PRAGMA trusted_schema=OFF;
PRAGMA cell_size_check=ON;
)sql";

constexpr const char* kReaderPragmas = R"sql(
PRAGMA busy_timeout=5000;
PRAGMA mmap_size=0;
PRAGMA temp_store=MEMORY;
PRAGMA trusted_schema=OFF;
PRAGMA cell_size_check=ON;
)sql";

// The last result wins: what a table without its key would do.
constexpr const char* kReplaceMeasurements = R"sql(
CREATE TEMP TRIGGER replace_measurement BEFORE INSERT ON main.measurement BEGIN
  DELETE FROM measurement WHERE configuration = NEW.configuration
    AND evaluation = NEW.evaluation AND document = NEW.document;
END;
)sql";

// NOTADB and CORRUPT name the file and say what to do with it.
absl::Status NameFile(absl::Status status, const std::string& path) {
  if (status.code() == absl::StatusCode::kDataLoss) {
    return MakeError(kDamagedDatabase,
                     absl::StrCat(path, ": ", status.message()), path,
                     "restore a backup, or start on another directory");
  }
  return status;
}

absl::Status SetDefensive(Database& database) {
  const int result = sqlite3_db_config(database.handle(),
                                       SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  return result == SQLITE_OK
             ? absl::OkStatus()
             : SqliteError(database.handle(), result, "set defensive");
}

absl::Status KeepWalAtClose(Database& database, bool keep) {
  const int result =
      sqlite3_db_config(database.handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                        keep ? 1 : 0, nullptr);
  return result == SQLITE_OK
             ? absl::OkStatus()
             : SqliteError(database.handle(), result, "keep the WAL");
}

// A migration that turns out to be wrong must not cost what was measured.
absl::Status CopyBeforeMigration(Database& database, const std::string& path,
                                 int64_t version) {
  QSWEEP_ASSIGN_OR_RETURN(
      const std::string time,
      database.QueryText("SELECT strftime('%Y%m%dT%H%M%fZ', 'now')"));
  const std::string copy = absl::StrCat(path, ".v", version, "-", time);
  const std::string partial = absl::StrCat(copy, ".partial");
  QSWEEP_ASSIGN_OR_RETURN(Statement vacuum, database.Prepare("VACUUM INTO ?"));
  vacuum.BindAll(partial);
  absl::Status status = vacuum.Step().status();
  if (status.ok()) {
    status = SyncPath(partial);
  }
  if (status.ok()) {
    status = RenamePath(partial, copy);
  }
  if (!status.ok()) {
    unlink(partial.c_str());
    return status;
  }
  return SyncPath(path.substr(0, path.rfind('/') + 1) + ".");
}

absl::Status Prepare(Database& database, const std::string& path,
                     const std::string& vfs, bool check_pages,
                     Migrations migrations) {
  // Before anything is written: it may be another program's, or a newer one's.
  QSWEEP_RETURN_IF_ERROR(KeepWalAtClose(database, true));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t version,
                          ReadVersion(database, path, std::ssize(migrations)));
  QSWEEP_RETURN_IF_ERROR(KeepWalAtClose(database, false));
  QSWEEP_RETURN_IF_ERROR(database.Execute(kWriterPragmas));
  QSWEEP_RETURN_IF_ERROR(SetDefensive(database));
  if (Planted(Bug::kSynchronousNormal)) {
    QSWEEP_RETURN_IF_ERROR(database.Execute("PRAGMA synchronous=NORMAL"));
  }
  // A page of the WAL that a failed fsync marked clean must not carry later
  // commits.
  QSWEEP_RETURN_IF_ERROR(database.Execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  const bool older = version < std::ssize(migrations);
  if (check_pages || older) {
    QSWEEP_RETURN_IF_ERROR(CheckPages(database, path));
  }
  if (version > 0 && older && vfs.empty()) {
    QSWEEP_RETURN_IF_ERROR(CopyBeforeMigration(database, path, version));
  }
  QSWEEP_RETURN_IF_ERROR(Migrate(database, path, migrations));
  return Planted(Bug::kMeasurementsNotUnique)
             ? database.Execute(kReplaceMeasurements)
             : absl::OkStatus();
}

// SQLite gives its WAL the permissions of the database. Only a new file is
// opened here: closing an existing one would drop the POSIX locks of every
// connection this process has on it.
absl::Status CreateForOwner(const std::string& path) {
  const int descriptor =
      open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return errno == EEXIST
               ? absl::OkStatus()
               : absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  }
  close(descriptor);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPages(Database& database, const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string found,
                          database.QueryText("PRAGMA quick_check(1)"));
  if (found != "ok") {
    return MakeError(kDamagedDatabase, absl::StrCat(path, ": ", found), path,
                     "restore a backup, or start on another directory");
  }
  return absl::OkStatus();
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  }
  FileLock lock(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    return MakeError(kDirectoryInUse,
                     absl::StrCat("another coordinator holds the lock ", path),
                     path,
                     "use that one, stop it first, or give another --dir");
  }
  return lock;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

FileLock::FileLock(FileLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

bool ReserveFile::Take() {
  const int descriptor =
      open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return false;
  }
  bool taken = false;
  struct statvfs file_system = {};
  struct stat file = {};
  if (fstatvfs(descriptor, &file_system) == 0 &&
      fstat(descriptor, &file) == 0) {
    const auto total = static_cast<int64_t>(file_system.f_blocks) *
                       static_cast<int64_t>(file_system.f_frsize);
    const int64_t wanted = std::min(kMaxBytes, total / 8);
    taken =
        file.st_size >= wanted || posix_fallocate(descriptor, 0, wanted) == 0;
  }
  close(descriptor);
  if (!taken) {
    Free();  // what a failed allocation took
  }
  return taken;
}

void ReserveFile::Free() { unlink(path_.c_str()); }

absl::Status SyncPath(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  }
  const int result = fsync(descriptor);
  const int error = errno;
  close(descriptor);
  return result == 0 ? absl::OkStatus()
                     : absl::ErrnoToStatus(error, absl::StrCat("sync ", path));
}

absl::Status RenamePath(const std::string& from, const std::string& to) {
  return rename(from.c_str(), to.c_str()) == 0
             ? absl::OkStatus()
             : absl::ErrnoToStatus(errno,
                                   absl::StrCat("rename ", from, " to ", to));
}

absl::StatusOr<Database> OpenWriter(const std::string& path,
                                    const std::string& vfs, bool check_pages,
                                    Migrations migrations) {
  if (vfs.empty()) {
    QSWEEP_RETURN_IF_ERROR(CreateForOwner(path));
  }
  QSWEEP_ASSIGN_OR_RETURN(
      Database database,
      Database::Open(path, Database::Mode::kReadWriteCreate, vfs));
  QSWEEP_RETURN_IF_ERROR(
      NameFile(Prepare(database, path, vfs, check_pages, migrations), path));
  return database;
}

absl::StatusOr<Database> OpenReader(const std::string& path,
                                    const std::string& vfs) {
  QSWEEP_ASSIGN_OR_RETURN(Database database,
                          Database::Open(path,
                                         Planted(Bug::kSecondWriter)
                                             ? Database::Mode::kReadWriteCreate
                                             : Database::Mode::kReadOnly,
                                         vfs));
  QSWEEP_RETURN_IF_ERROR(NameFile(database.Execute(kReaderPragmas), path));
  QSWEEP_RETURN_IF_ERROR(SetDefensive(database));
  return database;
}

}  // namespace qsweep
