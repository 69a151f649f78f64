#include "coordinator/store/analysis_cache.h"

#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/job/cell_metrics.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/statement_cache.h"

namespace qsweep {
namespace {

// A cache: losing the last commits costs a computation, not a result.
constexpr const char* kPragmas = R"sql(
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
PRAGMA busy_timeout=5000;
PRAGMA mmap_size=0;
PRAGMA trusted_schema=OFF;
)sql";

std::optional<double> Optional(bool present, double value) {
  return present ? std::optional<double>(value) : std::nullopt;
}

class SqliteAnalysisCache : public AnalysisCache {
 public:
  explicit SqliteAnalysisCache(Database database)
      : database_(std::move(database)), statements_(database_) {}

  absl::StatusOr<std::optional<v1::GetResultsResponse>> Find(
      JobNumber job, absl::string_view key) override {
    MutexLock lock(mutex_);
    QSWEEP_ASSIGN_OR_RETURN(Statement * row,
                            statements_.Get(sql::kFindResults));
    row->BindAll(job, key);
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (!found) {
      return std::nullopt;
    }
    QSWEEP_ASSIGN_OR_RETURN(v1::GetResultsResponse response,
                            ProtoColumn<v1::GetResultsResponse>(*row, 0));
    row->Reset();
    return response;
  }

  absl::StatusOr<bool> Has(JobNumber job) override {
    MutexLock lock(mutex_);
    QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kHasResults));
    row->BindAll(job);
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    row->Reset();
    return found;
  }

  absl::Status Save(JobNumber job, absl::string_view key,
                    const v1::GetResultsResponse& response) override {
    MutexLock lock(mutex_);
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kBegin));
    return End(Write(job, key, response));
  }

  absl::StatusOr<std::vector<JobNumber>> Jobs() override {
    MutexLock lock(mutex_);
    QSWEEP_ASSIGN_OR_RETURN(Statement * row,
                            statements_.Get(sql::kListResults));
    std::vector<JobNumber> jobs;
    while (true) {
      QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
      if (!more) {
        return jobs;
      }
      jobs.push_back(JobNumber(row->Integer(0)));
    }
  }

  absl::StatusOr<int64_t> Drop(JobNumber job) override {
    MutexLock lock(mutex_);
    QSWEEP_ASSIGN_OR_RETURN(const int64_t before, CountBytes());
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kBegin));
    absl::Status status = statements_.Run(sql::kDropResultRows, job);
    if (status.ok()) {
      status = statements_.Run(sql::kDropResults, job);
    }
    QSWEEP_RETURN_IF_ERROR(End(std::move(status)));
    QSWEEP_ASSIGN_OR_RETURN(const int64_t after, CountBytes());
    return before - after;
  }

  absl::StatusOr<int64_t> BytesHeld() override {
    MutexLock lock(mutex_);
    return CountBytes();
  }

 private:
  absl::StatusOr<int64_t> CountBytes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return database_.QueryInteger(sql::kCountUsedBytes);
  }

  // Of a transaction.
  absl::Status End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (status.ok()) {
      status = statements_.Run(sql::kCommit);
    }
    if (!status.ok() && database_.in_transaction()) {
      statements_.Run(sql::kRollback).IgnoreError();  // status says more
    }
    return status;
  }

  absl::Status Write(JobNumber job, absl::string_view key,
                     const v1::GetResultsResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kDropResultRows, job));
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kSaveResults, job, key,
                                           Blob{response.SerializeAsString()}));
    for (const v1::ResultPanel& panel : response.panels()) {
      for (const v1::ConfigurationResult& configuration :
           panel.configurations()) {
        for (const v1::CellResult& cell : configuration.cells()) {
          QSWEEP_RETURN_IF_ERROR(
              WriteCell(job, response, panel, configuration, cell));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status WriteCell(JobNumber job, const v1::GetResultsResponse& response,
                         const v1::ResultPanel& panel,
                         const v1::ConfigurationResult& configuration,
                         const v1::CellResult& cell)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const v1::LanguageResult& language =
        panel.languages(static_cast<int>(cell.language_index()));
    std::optional<uint32_t> layer;
    if (configuration.has_layer()) {
      layer = configuration.layer();
    }
    for (const CellMetric& metric : MetricsOf(cell)) {
      const v1::Estimate& estimate = metric.estimate;
      QSWEEP_RETURN_IF_ERROR(statements_.Run(
          sql::kAddResultRow, job,
          absl::BytesToHexString(configuration.configuration_digest()),
          panel.model(), configuration.layer_set(), configuration.resolved(),
          layer, panel.quantizer(), panel.compute(), panel.evaluation(),
          language.language(), response.reference(), language.units(),
          language.tokens(), metric.name, metric.higher_is_better,
          Optional(estimate.has_value(), estimate.value()),
          Optional(estimate.has_stderr(), estimate.stderr()),
          Optional(estimate.has_low(), estimate.low()),
          Optional(estimate.has_high(), estimate.high()),
          absl::StrJoin(cell.flags(), "+"), estimate.status(),
          configuration.overhead_params(), configuration.overhead_layers(),
          configuration.overhead_kept(), configuration.overhead_bytes()));
    }
    return absl::OkStatus();
  }

  Mutex mutex_;
  Database database_ ABSL_GUARDED_BY(mutex_);
  StatementCache statements_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<Database> OpenDatabase(const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(
      Database database,
      Database::Open(path, Database::Mode::kReadWriteCreate));
  QSWEEP_RETURN_IF_ERROR(database.Execute(kPragmas));
  QSWEEP_RETURN_IF_ERROR(CreateAnalysisSchema(database));
  return database;
}

}  // namespace

std::string AnalysisCache::Path(const std::string& directory) {
  return absl::StrCat(directory, "/analysis.db");
}

absl::StatusOr<std::unique_ptr<AnalysisCache>> AnalysisCache::Open(
    const std::string& path) {
  absl::StatusOr<Database> database = OpenDatabase(path);
  if (!database.ok()) {
    for (const char* suffix : {"", "-wal", "-shm"}) {
      unlink(absl::StrCat(path, suffix).c_str());
    }
    database = OpenDatabase(path);
  }
  if (!database.ok()) {
    return database.status();
  }
  return std::make_unique<SqliteAnalysisCache>(*std::move(database));
}

}  // namespace qsweep
