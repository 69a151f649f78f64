#ifndef QSWEEP_COORDINATOR_STORE_SQLITE_H_
#define QSWEEP_COORDINATOR_STORE_SQLITE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/ids.h"

struct sqlite3;
struct sqlite3_stmt;

namespace qsweep {

// Bytes to bind as a BLOB; plain strings are bound as TEXT.
struct Blob {
  absl::string_view bytes;
};

// A prepared statement. Parameters are numbered from 1, columns from 0. BindAll
// copies text, Run only borrows it. Single-thread, like its Database, which
// must outlive it.
//   QSWEEP_RETURN_IF_ERROR(statement.Run(task.value(), Blob{digest}));
// or, for rows:
//   statement.BindAll(job.value());
//   while (true) {
//     QSWEEP_ASSIGN_OR_RETURN(const bool row, statement.Step());
//     if (!row) { break; }   // reset by then
//     use(statement.Text(0));
//   }
class Statement {
 public:
  Statement(sqlite3* connection, sqlite3_stmt* handle)
      : connection_(connection), handle_(handle) {}
  ~Statement();
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;

  // Drops the rows and the bindings of an earlier use, then binds in order.
  template <typename... Args>
  void BindAll(const Args&... args) {
    Reset();
    int index = 0;
    (Bind(++index, args), ...);
  }

  // Binds without a copy, steps to the end, unbinds; rows are ignored.
  template <typename... Args>
  absl::Status Run(const Args&... args) {
    borrows_ = true;
    BindAll(args...);
    borrows_ = false;
    absl::Status status = Finish();
    Reset();  // the bindings point to what the caller owns
    return status;
  }

  // True: a row is there. False: the end; the statement is reset. After an
  // error too. RESOURCE_EXHAUSTED QS4004 disk full, DATA_LOSS QS4006 damaged
  // file or I/O error, UNAVAILABLE busy, CANCELLED interrupted, INTERNAL.
  absl::StatusOr<bool> Step();
  void Reset();

  int num_columns() const;
  std::string ColumnName(int column) const;
  bool IsNull(int column) const;
  // SQLITE_INTEGER, _FLOAT, _TEXT, _BLOB or _NULL.
  int Type(int column) const;
  int64_t Integer(int column) const;
  double Real(int column) const;
  // Text or blob, copied.
  std::string Text(int column) const;
  // As Text, valid until the next Step or Reset.
  absl::string_view View(int column) const;

  sqlite3_stmt* handle() const { return handle_; }
  // `lost` gets the first DATA_LOSS that Step or Run meets, and outlives this.
  void TellLoss(absl::Status* lost) { lost_ = lost; }

 private:
  void Bind(int index, int64_t value);
  void Bind(int index, int value) { Bind(index, int64_t{value}); }
  void Bind(int index, uint32_t value) { Bind(index, int64_t{value}); }
  void Bind(int index, uint64_t value) {
    Bind(index, static_cast<int64_t>(value));
  }
  void Bind(int index, bool value) { Bind(index, int64_t{value}); }
  void Bind(int index, double value);
  void Bind(int index, absl::string_view text);
  void Bind(int index, const std::string& text) {
    Bind(index, absl::string_view(text));
  }
  void Bind(int index, const char* text) {
    Bind(index, absl::string_view(text));
  }
  void Bind(int index, Blob blob);
  void Bind(int index, std::nullptr_t);
  template <typename Tag>
  void Bind(int index, IntegerId<Tag> id) {
    Bind(index, id.value());
  }
  template <typename Tag>
  void Bind(int index, UuidId<Tag> id) {
    BindBytes(index, id.bytes(), /*copy=*/true);
  }
  template <typename T>
  void Bind(int index, const std::optional<T>& value) {
    if (value.has_value()) {
      Bind(index, *value);
    } else {
      Bind(index, nullptr);
    }
  }
  void BindBytes(int index, absl::string_view bytes, bool copy);
  absl::Status Finish();

  sqlite3* connection_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
  bool borrows_ = false;  // Run binds
  absl::Status* lost_ = nullptr;
};

// "3.40.1", of the library that runs.
const char* SqliteVersion();
int SqliteVersionNumber();  // 3040001

// Whether SQLite of this version may corrupt a WAL that two
// connections write or checkpoint: 3.7.0 to 3.51.2 but for 3.44.6 and 3.50.7.
bool HasWalResetBug(int version);

// Settings of the whole process, made once: SQLite does not count allocations,
// which takes a lock that all connections share; a MemoryBudget counts those of
// its thread. Before anything else is asked of SQLite; Database::Open does it.
// Thread-safe.
void ConfigureSqlite();

// While it lives, SQLite gets no more than so many bytes on this thread beyond
// what it had: a statement that asks for more ends with SQLITE_NOMEM, and its
// connection goes on. One at a time on a thread.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes);
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // Somebody asked for more.
  bool exceeded() const { return exceeded_; }

  // For SQLite's allocator: false refuses so many bytes more.
  bool Take(int64_t bytes);
  void Return(int64_t bytes) { left_ += bytes; }

 private:
  int64_t left_;
  bool exceeded_ = false;
};

// One connection, confined to one thread at a time (opened NOMUTEX).
class Database {
 public:
  enum class Mode {
    kReadWriteCreate,
    kReadOnly,  // can neither write nor checkpoint
  };

  // vfs: name of a registered VFS; empty: the system's. NOT_FOUND: no such file
  // (kReadOnly). Else as Statement::Step.
  static absl::StatusOr<Database> Open(const std::string& path, Mode mode,
                                       const std::string& vfs = "");

  // Runs statements without parameters, separated by semicolons.
  absl::Status Execute(absl::string_view sql);
  // One statement, kept: for use many times.
  absl::StatusOr<Statement> Prepare(absl::string_view sql);
  // The first column of the first row. NOT_FOUND: no row.
  absl::StatusOr<int64_t> QueryInteger(absl::string_view sql);
  absl::StatusOr<std::string> QueryText(absl::string_view sql);

  // Rows changed by the last INSERT, UPDATE or DELETE.
  int64_t changes() const;
  bool in_transaction() const;
  sqlite3* handle() const { return connection_.get(); }

 private:
  struct Closer {
    void operator()(sqlite3* connection) const;
  };
  explicit Database(sqlite3* connection) : connection_(connection) {}
  std::unique_ptr<sqlite3, Closer> connection_;
};

// The Status of an SQLite result code, with the connection's message. what:
// what was being done, "commit".
absl::Status SqliteError(sqlite3* connection, int result,
                         absl::string_view what);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_SQLITE_H_
