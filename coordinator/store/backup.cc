#include "coordinator/store/backup.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "coordinator-";
constexpr char kSuffix[] = ".db";
constexpr int64_t kProblemsMax = 100;
// A restore in the making: whole and on disk once it has this name.
constexpr char kIncoming[] = ".incoming";
constexpr char kReplaced[] = ".replaced-";

std::string TimeText(absl::Time time) {
  // Sorts by time; microseconds keep two backups of a second apart.
  return absl::FormatTime("%Y%m%dT%H%M%E6SZ", time, absl::UTCTimeZone());
}

absl::Status AppendRows(Database& database, const char* sql,
                        std::vector<std::string>& rows) {
  QSWEEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare(sql));
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) {
      return absl::OkStatus();
    }
    rows.push_back(statement.Text(0));
  }
}

absl::Status RefuseDamaged(const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> problems,
                          FindDatabaseProblems(path));
  if (problems.empty()) {
    return absl::OkStatus();
  }
  return MakeError(kDamagedDatabase,
                   absl::StrCat(path, " is damaged: ", problems.front()), path,
                   "Use another backup.");
}

// Removes all but the newest; what cannot be removed stays.
std::vector<std::string> Prune(const std::string& folder, int keep) {
  std::vector<std::string> backups;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, kPrefix) && absl::EndsWith(name, kSuffix)) {
      backups.push_back(entry.path().string());
    }
  }
  std::ranges::sort(backups);
  std::vector<std::string> removed;
  while (backups.size() - removed.size() >
         static_cast<size_t>(std::max(keep, 1))) {
    const std::string& oldest = backups[removed.size()];
    fs::remove(oldest, error);
    removed.push_back(oldest);
  }
  return removed;
}

// As many programs do it: some pages, then the writers have a turn.
absl::Status CopyInSteps(Database& database, const std::string& copy) {
  QSWEEP_ASSIGN_OR_RETURN(
      Database into, Database::Open(copy, Database::Mode::kReadWriteCreate));
  sqlite3_backup* backup =
      sqlite3_backup_init(into.handle(), "main", database.handle(), "main");
  int result = SQLITE_OK;
  while (result == SQLITE_OK || result == SQLITE_BUSY) {
    result = sqlite3_backup_step(backup, 100);
    sqlite3_sleep(10);
  }
  sqlite3_backup_finish(backup);
  return result == SQLITE_DONE ? absl::OkStatus()
                               : SqliteError(into.handle(), result, "backup");
}

absl::Status CopyInto(const std::string& directory, const std::string& copy) {
  QSWEEP_ASSIGN_OR_RETURN(Database database,
                          OpenReader(DatabasePath(directory)));
  if (Planted(Bug::kBackupInSteps)) {
    return CopyInSteps(database, copy);
  }
  QSWEEP_ASSIGN_OR_RETURN(Statement vacuum, database.Prepare("VACUUM INTO ?"));
  vacuum.BindAll(copy);
  QSWEEP_RETURN_IF_ERROR(vacuum.Step().status());
  QSWEEP_RETURN_IF_ERROR(RefuseDamaged(copy));
  return SyncPath(copy);
}

// Databases that restores replaced, the newest last.
std::vector<std::string> FindReplaced(const std::string& directory) {
  const std::string prefix = absl::StrCat(
      fs::path(DatabasePath(directory)).filename().string(), kReplaced);
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, prefix) && absl::EndsWith(name, "Z")) {
      found.push_back(entry.path().string());
    }
  }
  std::ranges::sort(found);
  return found;
}

// The rest of a restore, once the database is out of the way.
absl::Status PutInPlace(const std::string& directory,
                        const std::string& replaced) {
  const std::string database = DatabasePath(directory);
  std::error_code error;
  // The WAL belongs to the file it goes with: a new database beside an old WAL
  // would be taken for a damaged one.
  for (const char* suffix : {"-wal", "-shm"}) {
    if (fs::exists(absl::StrCat(database, suffix), error)) {
      QSWEEP_RETURN_IF_ERROR(RenamePath(absl::StrCat(database, suffix),
                                        absl::StrCat(replaced, suffix)));
    }
  }
  QSWEEP_RETURN_IF_ERROR(
      RenamePath(absl::StrCat(database, kIncoming), database));
  return SyncPath(directory);
}

}  // namespace

absl::StatusOr<BackupInfo> BackUpDatabase(const std::string& directory,
                                          absl::Time time, int keep) {
  std::error_code error;
  const std::string folder =
      (fs::absolute(directory, error) / "backups").string();
  fs::create_directory(folder, error);
  if (error) {
    return MakeError(
        kCannotWrite,
        absl::StrCat("cannot make ", folder, ": ", error.message()), folder);
  }
  BackupInfo info{
      .path = absl::StrCat(folder, "/", kPrefix, TimeText(time), kSuffix)};
  const std::string partial = absl::StrCat(info.path, ".partial");
  fs::remove(partial, error);
  absl::Status status = CopyInto(directory, partial);
  if (status.ok()) {
    status = RenamePath(partial, info.path);
  }
  if (!status.ok()) {
    fs::remove(partial, error);
    return status;
  }
  QSWEEP_RETURN_IF_ERROR(SyncPath(folder));
  info.bytes = static_cast<int64_t>(fs::file_size(info.path, error));
  info.removed = Prune(folder, keep);
  return info;
}

absl::StatusOr<std::vector<std::string>> FindDatabaseProblems(
    const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(Database database, OpenReader(path));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t version, ReadVersion(database, path));
  if (version == 0) {
    return MakeError(kDamagedDatabase, absl::StrCat(path, " is empty"), path);
  }
  std::vector<std::string> problems;
  QSWEEP_RETURN_IF_ERROR(
      AppendRows(database, "SELECT integrity_check FROM pragma_integrity_check",
                 problems));
  if (problems == std::vector<std::string>{"ok"}) {
    problems.clear();
  }
  QSWEEP_RETURN_IF_ERROR(AppendRows(
      database,
      "SELECT 'row ' || ifnull(rowid, '?') || ' of ' || \"table\" || "
      "' refers to a row of ' || parent || ' that is not there' "
      "FROM pragma_foreign_key_check",
      problems));
  if (static_cast<int64_t>(problems.size()) > kProblemsMax) {
    problems.resize(kProblemsMax);
  }
  return problems;
}

absl::Status RestoreDatabase(const std::string& directory,
                             const std::string& backup, absl::Time time) {
  std::error_code error;
  if (!fs::is_regular_file(backup, error)) {
    return MakeError(kNoBackup, absl::StrCat("no backup ", backup), backup,
                     absl::StrCat("Look in ", directory, "/backups."));
  }
  const std::string database = DatabasePath(directory);
  QSWEEP_ASSIGN_OR_RETURN(
      const FileLock lock,
      FileLock::Acquire(absl::StrCat(directory, "/coordinator.lock")));
  QSWEEP_RETURN_IF_ERROR(RefuseDamaged(backup));
  QSWEEP_RETURN_IF_ERROR(FinishRestore(directory).status());
  const std::string incoming = absl::StrCat(database, kIncoming);
  const std::string partial = absl::StrCat(incoming, ".partial");
  fs::copy_file(backup, partial, fs::copy_options::overwrite_existing, error);
  if (error) {
    return MakeError(kCannotWrite,
                     absl::StrCat("cannot copy ", backup, " to ", partial, ": ",
                                  error.message()),
                     partial);
  }
  QSWEEP_RETURN_IF_ERROR(SyncPath(partial));
  QSWEEP_RETURN_IF_ERROR(RenamePath(partial, incoming));
  QSWEEP_RETURN_IF_ERROR(SyncPath(directory));
  const std::string replaced =
      absl::StrCat(database, kReplaced, TimeText(time));
  if (fs::exists(database, error)) {
    QSWEEP_RETURN_IF_ERROR(RenamePath(database, replaced));
  }
  return PutInPlace(directory, replaced);
}

absl::StatusOr<bool> FinishRestore(const std::string& directory) {
  const std::string database = DatabasePath(directory);
  std::error_code error;
  if (fs::exists(database, error) ||
      !fs::exists(absl::StrCat(database, kIncoming), error)) {
    return false;
  }
  const std::vector<std::string> replaced = FindReplaced(directory);
  QSWEEP_RETURN_IF_ERROR(PutInPlace(
      directory, replaced.empty() ? absl::StrCat(database, ".replaced")
                                  : replaced.back()));
  return true;
}

absl::Status RefuseMissingDatabase(const std::string& directory) {
  const std::string database = DatabasePath(directory);
  const std::vector<std::string> replaced = FindReplaced(directory);
  std::error_code error;
  if (fs::exists(database, error) || replaced.empty()) {
    return absl::OkStatus();
  }
  return MakeError(
      kDamagedDatabase,
      absl::StrCat(database, " is missing, but ", replaced.back(), " is there"),
      database,
      "Restore a backup, rename that file, or start on another directory.");
}

}  // namespace qsweep
