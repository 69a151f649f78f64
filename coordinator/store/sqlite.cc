#include "coordinator/store/sqlite.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

// SQLITE_TRANSIENT is a C cast of -1 to a function pointer.
sqlite3_destructor_type CopyBytes() {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the documented sentinel
  return reinterpret_cast<sqlite3_destructor_type>(intptr_t{-1});
}

// Of this thread; null: nothing is counted.
thread_local MemoryBudget* budget = nullptr;

// What SQLite would use without us.
sqlite3_mem_methods system_memory;

// What was taken for `bytes` becomes what is freed one day, which is more: else
// each pair would leave the budget larger.
void Settle(void* memory, int bytes) {
  if (budget != nullptr) {
    budget->Return(bytes -
                   (memory == nullptr ? 0 : system_memory.xSize(memory)));
  }
}

void* Allocate(int bytes) {
  if (budget != nullptr && !budget->Take(bytes)) {
    return nullptr;
  }
  void* memory = system_memory.xMalloc(bytes);
  Settle(memory, bytes);
  return memory;
}

void Free(void* memory) {
  if (budget != nullptr && memory != nullptr) {
    budget->Return(system_memory.xSize(memory));
  }
  system_memory.xFree(memory);
}

void* Reallocate(void* memory, int bytes) {
  if (budget == nullptr) {
    return system_memory.xRealloc(memory, bytes);
  }
  const int before = system_memory.xSize(memory);
  if (!budget->Take(bytes - before)) {
    return nullptr;
  }
  void* moved = system_memory.xRealloc(memory, bytes);
  if (moved != nullptr) {
    Settle(moved, bytes);
  } else {
    budget->Return(bytes - before);  // the old one stays
  }
  return moved;
}

int Configure() {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory);
  sqlite3_mem_methods counted = system_memory;
  counted.xMalloc = Allocate;
  counted.xFree = Free;
  counted.xRealloc = Reallocate;
  return sqlite3_config(SQLITE_CONFIG_MALLOC, &counted);
}

absl::Status DiskFull(sqlite3* connection, absl::string_view text) {
  const char* path =
      connection == nullptr ? nullptr : sqlite3_db_filename(connection, "main");
  return MakeError(kDiskFull, text, path == nullptr ? "" : path,
                   "free space on the coordinator's disk; work that is running "
                   "goes on and its results are kept by the workers");
}

}  // namespace

absl::Status SqliteError(sqlite3* connection, int result,
                         absl::string_view what) {
  const int primary = result & 0xff;
  const std::string text =
      absl::StrCat(what, ": ",
                   connection == nullptr ? sqlite3_errstr(result)
                                         : sqlite3_errmsg(connection),
                   " (SQLite ", result, ")");
  switch (primary) {
    case SQLITE_FULL:
      return DiskFull(connection, text);
    case SQLITE_IOERR:
      // The WAL index grows by ftruncate. A failed fsync is never "full": its
      // pages are marked clean, so it must not be tried again.
      if (connection != nullptr && result != SQLITE_IOERR_FSYNC &&
          result != SQLITE_IOERR_DIR_FSYNC &&
          sqlite3_system_errno(connection) == ENOSPC) {
        return DiskFull(connection, text);
      }
      return MakeError(kDamagedDatabase, text, "",
                       "check the disk; then start the coordinator again, it "
                       "recovers what was acknowledged");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return MakeError(kDamagedDatabase, text, "",
                       "restore a backup, or start on another directory");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(text);
    case SQLITE_INTERRUPT:
      return absl::CancelledError(text);
    case SQLITE_CANTOPEN:
      return absl::NotFoundError(text);
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return absl::PermissionDeniedError(text);
    default:
      return MakeError(kInternal, text);
  }
}

Statement::~Statement() { sqlite3_finalize(handle_); }

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_),
      handle_(std::exchange(other.handle_, nullptr)),
      lost_(other.lost_) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(connection_, other.connection_);
  std::swap(handle_, other.handle_);
  std::swap(lost_, other.lost_);
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  const int result = sqlite3_step(handle_);
  if (result == SQLITE_ROW) {
    return true;
  }
  if (result == SQLITE_DONE) {
    sqlite3_reset(handle_);
    return false;
  }
  absl::Status error = SqliteError(connection_, result, sqlite3_sql(handle_));
  sqlite3_reset(handle_);
  if (lost_ != nullptr && absl::IsDataLoss(error)) {
    lost_->Update(error);
  }
  return error;
}

absl::Status Statement::Finish() {
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) {
      return absl::OkStatus();
    }
  }
}

void Statement::Reset() {
  sqlite3_reset(handle_);
  sqlite3_clear_bindings(handle_);
}

// A bind fails only on a wrong index or without memory: both are defects here.
void Statement::Bind(int index, int64_t value) {
  QSWEEP_CHECK(sqlite3_bind_int64(handle_, index, value) == SQLITE_OK);
}

void Statement::Bind(int index, double value) {
  QSWEEP_CHECK(sqlite3_bind_double(handle_, index, value) == SQLITE_OK);
}

void Statement::Bind(int index, absl::string_view text) {
  QSWEEP_CHECK(sqlite3_bind_text64(
                   handle_, index, text.data() == nullptr ? "" : text.data(),
                   text.size(), borrows_ ? SQLITE_STATIC : CopyBytes(),
                   SQLITE_UTF8) == SQLITE_OK);
}

void Statement::Bind(int index, Blob blob) {
  BindBytes(index, blob.bytes, !borrows_);
}

void Statement::BindBytes(int index, absl::string_view bytes, bool copy) {
  // A null pointer would bind NULL instead of an empty blob.
  const char* data = bytes.data() == nullptr ? "" : bytes.data();
  QSWEEP_CHECK(sqlite3_bind_blob64(handle_, index, data, bytes.size(),
                                   copy ? CopyBytes() : SQLITE_STATIC) ==
               SQLITE_OK);
}

void Statement::Bind(int index, std::nullptr_t) {
  QSWEEP_CHECK(sqlite3_bind_null(handle_, index) == SQLITE_OK);
}

int Statement::num_columns() const { return sqlite3_column_count(handle_); }

std::string Statement::ColumnName(int column) const {
  const char* name = sqlite3_column_name(handle_, column);
  return name == nullptr ? "" : name;
}

bool Statement::IsNull(int column) const { return Type(column) == SQLITE_NULL; }

int Statement::Type(int column) const {
  return sqlite3_column_type(handle_, column);
}

int64_t Statement::Integer(int column) const {
  return sqlite3_column_int64(handle_, column);
}

double Statement::Real(int column) const {
  return sqlite3_column_double(handle_, column);
}

std::string Statement::Text(int column) const {
  return std::string(View(column));
}

absl::string_view Statement::View(int column) const {
  // Blob first: for text it returns the UTF-8 bytes without converting.
  const auto* bytes =
      static_cast<const char*>(sqlite3_column_blob(handle_, column));
  const int size = sqlite3_column_bytes(handle_, column);
  return bytes == nullptr ? absl::string_view()
                          : absl::string_view(bytes, static_cast<size_t>(size));
}

void Database::Closer::operator()(sqlite3* connection) const {
  sqlite3_close_v2(connection);
}

const char* SqliteVersion() { return sqlite3_libversion(); }
int SqliteVersionNumber() { return sqlite3_libversion_number(); }

bool HasWalResetBug(int version) {
  const auto in = [version](int first, int end) {
    return first <= version && version < end;
  };
  return in(3'007'000, 3'051'003) && !in(3'044'006, 3'045'000) &&
         !in(3'050'007, 3'051'000);
}

void ConfigureSqlite() {
  // Refused when SQLite was in use before: a budget would be none.
  static const int result = Configure();
  QSWEEP_CHECK(result == SQLITE_OK);
}

MemoryBudget::MemoryBudget(int64_t bytes) : left_(bytes) {
  QSWEEP_CHECK(budget == nullptr);
  budget = this;
}

MemoryBudget::~MemoryBudget() { budget = nullptr; }

bool MemoryBudget::Take(int64_t bytes) {
  if (bytes > left_) {
    exceeded_ = true;
    return false;
  }
  left_ -= bytes;
  return true;
}

absl::StatusOr<Database> Database::Open(const std::string& path, Mode mode,
                                        const std::string& vfs) {
  ConfigureSqlite();
  const int flags =
      SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
      (mode == Mode::kReadOnly ? SQLITE_OPEN_READONLY
                               : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  sqlite3* connection = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &connection, flags,
                                     vfs.empty() ? nullptr : vfs.c_str());
  Database database(connection);
  if (result != SQLITE_OK) {
    return SqliteError(connection, result, absl::StrCat("open ", path));
  }
  return database;
}

absl::Status Database::Execute(absl::string_view sql) {
  const int result = sqlite3_exec(handle(), std::string(sql).c_str(), nullptr,
                                  nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus()
                             : SqliteError(handle(), result, sql);
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int result =
      sqlite3_prepare_v3(handle(), sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (result != SQLITE_OK) {
    return SqliteError(handle(), result, sql);
  }
  return Statement(handle(), statement);
}

absl::StatusOr<int64_t> Database::QueryInteger(absl::string_view sql) {
  QSWEEP_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  QSWEEP_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) {
    return absl::NotFoundError(absl::StrCat("no row: ", sql));
  }
  return statement.Integer(0);
}

absl::StatusOr<std::string> Database::QueryText(absl::string_view sql) {
  QSWEEP_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  QSWEEP_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) {
    return absl::NotFoundError(absl::StrCat("no row: ", sql));
  }
  return statement.Text(0);
}

int64_t Database::changes() const { return sqlite3_changes64(handle()); }

bool Database::in_transaction() const {
  return sqlite3_get_autocommit(handle()) == 0;
}

}  // namespace qsweep
