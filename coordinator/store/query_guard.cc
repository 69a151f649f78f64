#include "coordinator/store/query_guard.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/job/utf8.h"
#include "coordinator/store/query_functions.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sql.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

constexpr int kMaxSqlBytes = 64 << 10;
constexpr int kMaxValueBytes = 1 << 20;
constexpr int kMaxColumns = 100;
constexpr int kMaxCompound = 8;
constexpr int kMaxDepth = 100;
// An operation may take as long as a pattern of so many bytes over a value of
// a megabyte: a tenth of a second.
constexpr int kOpsPerCheck = 100;
constexpr int kMaxPatternBytes = 100;
constexpr uint32_t kMaxRows = 10'000;
constexpr size_t kMaxResultBytes = size_t{8} << 20;
// Of SQLite's, for one query: what it sorts and groups stays in memory.
constexpr int64_t kMaxMemoryBytes = int64_t{64} << 20;
constexpr absl::Duration kDefaultDeadline = absl::Seconds(2);
constexpr absl::Duration kMaxDeadline = absl::Seconds(60);

// Pure functions, by SQLite's names; "->" and "->>" are those of JSON.
constexpr const char* kFunctions[] = {"->",
                                      "->>",
                                      "abs",
                                      "acos",
                                      "asin",
                                      "atan",
                                      "atan2",
                                      "avg",
                                      "ceil",
                                      "ceiling",
                                      "char",
                                      "coalesce",
                                      "cos",
                                      "count",
                                      "cume_dist",
                                      "date",
                                      "datetime",
                                      "degrees",
                                      "dense_rank",
                                      "exp",
                                      "first_value",
                                      "floor",
                                      "format",
                                      "glob",
                                      "group_concat",
                                      "hex",
                                      "ifnull",
                                      "iif",
                                      "instr",
                                      "json_array_length",
                                      "json_extract",
                                      "json_group_array",
                                      "json_group_object",
                                      "json_object",
                                      "json_array",
                                      "json_type",
                                      "json_valid",
                                      "julianday",
                                      "lag",
                                      "last_value",
                                      "lead",
                                      "length",
                                      "like",
                                      "ln",
                                      "log",
                                      "log10",
                                      "log2",
                                      "lower",
                                      "ltrim",
                                      "max",
                                      "min",
                                      "mod",
                                      "nth_value",
                                      "ntile",
                                      "nullif",
                                      "percent_rank",
                                      "pi",
                                      "pow",
                                      "power",
                                      "printf",
                                      "quote",
                                      "radians",
                                      "rank",
                                      "replace",
                                      "round",
                                      "row_number",
                                      "rtrim",
                                      "sign",
                                      "sin",
                                      "sqrt",
                                      "strftime",
                                      "substr",
                                      "substring",
                                      "sum",
                                      "tan",
                                      "time",
                                      "total",
                                      "trim",
                                      "trunc",
                                      "typeof",
                                      "unicode",
                                      "unixepoch",
                                      "upper"};

absl::Status NotASelect(absl::string_view message) {
  return MakeError(kNotASelect, message, "sql",
                   "send one SELECT over measurements_v1, job_measurements_v1, "
                   "results_v1, jobs_v1, tasks_v1, workers_v1, events_v1 or "
                   "audit_v1");
}

bool IsBlank(absl::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return absl::ascii_isspace(static_cast<unsigned char>(c)) || c == ';';
  });
}

v1::QueryValue ValueOf(const Statement& row, int column) {
  v1::QueryValue value;
  switch (row.Type(column)) {
    case SQLITE_INTEGER:
      value.set_integer(row.Integer(column));
      break;
    case SQLITE_FLOAT:
      value.set_real(row.Real(column));
      break;
    case SQLITE_TEXT:
      // A proto string holds no other; SQLite keeps any bytes in a TEXT made by
      // CAST.
      if (IsValidUtf8(row.View(column))) {
        value.set_text(row.Text(column));
        break;
      }
      [[fallthrough]];
    case SQLITE_BLOB:
      value.set_blob(row.Text(column));
      break;
    default:
      break;
  }
  return value;
}

}  // namespace

struct QueryGuard::State {
  State(Database database_in, const Clock& clock_in)
      : database(std::move(database_in)), clock(clock_in) {}

  int Authorize(int action, const char* first, const char* second,
                const char* context);
  absl::Status Install(const std::string& analysis_path);
  absl::Status AddView(const ViewDefinition& view, const std::string& secret);
  absl::StatusOr<Statement> Prepare(const std::string& sql);
  absl::StatusOr<v1::QueryResponse> Collect(Statement& statement,
                                            uint32_t limit);
  absl::Status Explain(absl::Status status) const;

  Database database;
  const Clock& clock;
  SteadyTime deadline;
  bool timed_out = false;
  bool stopped = false;
  const std::function<bool()>* stop = nullptr;  // of the query that runs
  const MemoryBudget* memory = nullptr;         // as `stop`
  bool denied = false;
  std::string denied_what;
  std::set<std::string> functions;
  std::set<std::string> views;          // what users may name
  std::set<std::string> bodies;         // hidden views, which may read tables
  std::set<std::string> read_by_views;  // tables, in this query
};

// Tables are readable only inside a hidden view. SQLite tells the authorizer
// the innermost view, but a common table expression counts as one, and users
// choose its name: so the views that may read tables have names nobody can
// guess, and the documented names only select from them.
int QueryGuard::State::Authorize(int action, const char* first,
                                 const char* second, const char* context) {
  const std::string name = first == nullptr ? "" : first;
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_READ:
      if (views.contains(name) || bodies.contains(name)) {
        return SQLITE_OK;
      }
      if (context != nullptr && bodies.contains(context)) {
        read_by_views.insert(name);
        return SQLITE_OK;
      }
      // A view merged into the query leaves tables of which no column is used;
      // SQLite asks for those again, without a column, in the query's own name.
      if (second != nullptr && *second == '\0' &&
          read_by_views.contains(name)) {
        return SQLITE_OK;
      }
      denied_what = absl::StrCat("'", name, "' is not a documented view");
      break;
    case SQLITE_FUNCTION: {
      const std::string function = second == nullptr ? "" : second;
      if (functions.contains(absl::AsciiStrToLower(function))) {
        return SQLITE_OK;
      }
      denied_what = absl::StrCat("function '", function, "' is not allowed");
      break;
    }
    default:
      denied_what = "only SELECT is allowed";
      break;
  }
  denied = true;
  return SQLITE_DENY;
}

absl::Status QueryGuard::State::AddView(const ViewDefinition& view,
                                        const std::string& secret) {
  const std::string body = absl::StrCat("view_", secret, "_", view.name);
  bodies.insert(body);
  views.insert(view.name);
  return database.Execute(absl::StrCat("CREATE TEMP VIEW ", body, " AS ",
                                       view.select, ";CREATE TEMP VIEW ",
                                       view.name, " AS SELECT * FROM ", body));
}

absl::Status QueryGuard::State::Install(const std::string& analysis_path) {
  functions.insert(std::begin(kFunctions), std::end(kFunctions));
  QSWEEP_RETURN_IF_ERROR(InstallLinearFunctions(database));
  QSWEEP_ASSIGN_OR_RETURN(Statement attach,
                          database.Prepare(sql::kAttachAnalysis));
  QSWEEP_RETURN_IF_ERROR(attach.Run(analysis_path));
  const std::string secret = absl::BytesToHexString(SecureRandomBytes(16));
  for (const ViewDefinition& view : DocumentedViews()) {
    QSWEEP_RETURN_IF_ERROR(AddView(view, secret));
  }
  QSWEEP_RETURN_IF_ERROR(AddView(kResultsView, secret));
  sqlite3* const connection = database.handle();
  sqlite3_limit(connection, SQLITE_LIMIT_SQL_LENGTH, kMaxSqlBytes);
  sqlite3_limit(connection, SQLITE_LIMIT_LENGTH, kMaxValueBytes);
  sqlite3_limit(connection, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, kMaxPatternBytes);
  sqlite3_limit(connection, SQLITE_LIMIT_COLUMN, kMaxColumns);
  sqlite3_limit(connection, SQLITE_LIMIT_COMPOUND_SELECT, kMaxCompound);
  sqlite3_limit(connection, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_limit(connection, SQLITE_LIMIT_EXPR_DEPTH, kMaxDepth);
  sqlite3_limit(connection, SQLITE_LIMIT_WORKER_THREADS, 0);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0,
                    nullptr);
  sqlite3_set_authorizer(
      connection,
      [](void* state, int action, const char* first, const char* second,
         const char* /*database*/, const char* context) {
        return static_cast<State*>(state)->Authorize(action, first, second,
                                                     context);
      },
      this);
  sqlite3_progress_handler(
      connection, kOpsPerCheck,
      [](void* opaque) {
        auto* state = static_cast<State*>(opaque);
        state->timed_out = state->clock.SteadyNow() >= state->deadline;
        state->stopped = *state->stop && (*state->stop)();
        return state->timed_out || state->stopped ? 1 : 0;
      },
      this);
  return absl::OkStatus();
}

absl::Status QueryGuard::State::Explain(absl::Status status) const {
  if (stopped) {
    return absl::CancelledError("nobody waits for the query any more");
  }
  if (memory->exceeded() && status.code() == absl::StatusCode::kInternal) {
    return MakeError(kQueryLimit,
                     absl::StrCat("the query takes more than ",
                                  kMaxMemoryBytes >> 20, " MiB of memory"),
                     "sql",
                     "narrow it with WHERE, or add LIMIT to its ORDER BY");
  }
  if (timed_out) {
    return MakeError(kQueryLimit, "the query ran into its deadline", "sql",
                     "narrow it with WHERE, or give a longer --timeout");
  }
  if (denied) {
    return NotASelect(denied_what);
  }
  if (status.code() == absl::StatusCode::kDataLoss ||
      status.code() == absl::StatusCode::kUnavailable) {
    return status;
  }
  return MakeError(kQueryError, sqlite3_errmsg(database.handle()), "sql");
}

absl::StatusOr<Statement> QueryGuard::State::Prepare(const std::string& sql) {
  if (sql.size() > kMaxSqlBytes) {
    return MakeError(kQueryLimit,
                     absl::StrCat("the query has ", sql.size(),
                                  " bytes; at most ", kMaxSqlBytes),
                     "sql");
  }
  if (IsBlank(sql)) {
    return NotASelect("the query is empty");
  }
  sqlite3_stmt* handle = nullptr;
  const char* tail = nullptr;
  const int result =
      sqlite3_prepare_v2(database.handle(), sql.c_str(),
                         static_cast<int>(sql.size()), &handle, &tail);
  Statement statement(database.handle(), handle);
  if (result != SQLITE_OK) {
    return Explain(SqliteError(database.handle(), result, "prepare"));
  }
  if (handle == nullptr) {
    return NotASelect("the query is only a comment");
  }
  if (!IsBlank(tail)) {
    return NotASelect("the query has more than one statement");
  }
  if (sqlite3_stmt_readonly(handle) == 0 ||
      sqlite3_stmt_isexplain(handle) != 0) {
    return NotASelect("only SELECT is allowed");
  }
  return statement;
}

absl::StatusOr<v1::QueryResponse> QueryGuard::State::Collect(
    Statement& statement, uint32_t limit) {
  v1::QueryResponse response;
  for (int i = 0; i < statement.num_columns(); ++i) {
    response.add_columns(statement.ColumnName(i));
  }
  size_t bytes = 0;
  while (true) {
    const absl::StatusOr<bool> more = statement.Step();
    if (!more.ok()) {
      return Explain(more.status());
    }
    if (!*more) {
      return response;
    }
    v1::QueryRow row;
    for (int i = 0; i < statement.num_columns() && bytes <= kMaxResultBytes;
         ++i) {
      *row.add_values() = ValueOf(statement, i);
      bytes += row.values(i).ByteSizeLong() + 4;
    }
    bytes += 4;
    if (static_cast<uint32_t>(response.rows_size()) == limit ||
        bytes > kMaxResultBytes) {
      response.set_truncated(true);
      return response;
    }
    *response.add_rows() = std::move(row);
  }
}

QueryGuard::QueryGuard(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
QueryGuard::~QueryGuard() = default;

absl::StatusOr<std::unique_ptr<QueryGuard>> QueryGuard::Create(
    Database database, const std::string& analysis_path, const Clock& clock) {
  auto state = std::make_unique<State>(std::move(database), clock);
  QSWEEP_RETURN_IF_ERROR(state->Install(analysis_path));
  return std::unique_ptr<QueryGuard>(new QueryGuard(std::move(state)));
}

absl::StatusOr<v1::QueryResponse> QueryGuard::Run(
    const v1::QueryRequest& request, const std::function<bool()>& stop) {
  State& state = *state_;
  const MemoryBudget memory(kMaxMemoryBytes);
  state.memory = &memory;
  state.stop = &stop;
  state.timed_out = false;
  state.stopped = false;
  state.denied = false;
  state.read_by_views.clear();
  const absl::Duration asked = request.deadline_ms() == 0
                                   ? kDefaultDeadline
                                   : absl::Milliseconds(request.deadline_ms());
  state.deadline = state.clock.SteadyNow() + std::min(asked, kMaxDeadline);
  QSWEEP_ASSIGN_OR_RETURN(Statement statement, state.Prepare(request.sql()));
  const uint32_t limit =
      request.limit() == 0 ? kMaxRows : std::min(request.limit(), kMaxRows);
  return state.Collect(statement, limit);
}

}  // namespace qsweep
