#ifndef QSWEEP_COORDINATOR_STORE_SCHEMA_H_
#define QSWEEP_COORDINATOR_STORE_SCHEMA_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

class Database;

// "qswp": PRAGMA application_id of the coordinator's file.
inline constexpr int64_t kApplicationId = 0x71737770;

// SQL; number N - 1 brings version N - 1 to N.
using Migrations = std::span<const char* const>;
Migrations CurrentMigrations();

// The version this program reads and writes: PRAGMA user_version.
int64_t CurrentSchemaVersion();

// A documented view: the stable surface of `qctl query`. `select` is its
// definition over the tables of the main database.
struct ViewDefinition {
  const char* name;
  const char* select;
};
std::span<const ViewDefinition> DocumentedViews();

// results_v1, over the analysis cache attached as `analysis`.
extern const ViewDefinition kResultsView;

// The tables of analysis_cache.h, made again when they are of another version.
absl::Status CreateAnalysisSchema(Database& database);

// Schema version of a database, 0 of an empty one. Changes nothing.
// FAILED_PRECONDITION QS4005: newer than `newest`. DATA_LOSS QS4006: another
// program's.
absl::StatusOr<int64_t> ReadVersion(Database& database, const std::string& path,
                                    int64_t newest = CurrentSchemaVersion());

// Brings an empty or older database to the last version, one IMMEDIATE
// transaction per step, foreign keys checked before each commit; then creates
// the documented views again. Errors as ReadVersion; DATA_LOSS QS4006 also for
// one whose keys do not hold. path: for the messages.
absl::Status Migrate(Database& database, const std::string& path,
                     Migrations migrations = CurrentMigrations());

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_SCHEMA_H_
