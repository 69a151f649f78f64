#ifndef QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_
#define QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "coordinator/core/mutation.h"
#include "coordinator/store/sqlite.h"

namespace qsweep {

// Statements of one connection, each prepared once and kept. The keys are the
// addresses of the constants in sql.h. Single-thread; the database must outlive
// it.
class StatementCache {
 public:
  explicit StatementCache(Database& database) : database_(database) {}

  // The statement, reset. Lives as long as the cache.
  absl::StatusOr<Statement*> Get(const char* sql);

  template <typename... Args>
  absl::Status Run(const char* sql, const Args&... args) {
    absl::StatusOr<Statement*> statement = Get(sql);
    return statement.ok() ? (*statement)->Run(args...) : statement.status();
  }

 private:
  Database& database_;
  absl::flat_hash_map<const char*, Statement> statements_;
};

// Turns a durable mutation into statements, inside the caller's transaction;
// memory-only ones do nothing. One overload per alternative: a mutation without
// one does not compile. Errors: as Statement::Step. Single-thread.
class MutationWriter {
 public:
  explicit MutationWriter(StatementCache& statements)
      : statements_(statements) {}

  absl::Status Write(const Mutation& mutation);

 private:
  absl::Status On(const CoordinatorStarted& m);
  absl::Status On(const ArtifactAdded& m);
  absl::Status On(const CorpusAdded& m);
  absl::Status On(const ModelAdded& m);
  absl::Status On(const JobAdded& m);
  absl::Status On(const JobDocumentsAdded& m);
  absl::Status On(const JobPlanningResumed& m);
  absl::Status On(const JobActivated& m);
  absl::Status On(const JobReopened& m);
  absl::Status On(const JobPurged& m);
  absl::Status On(const JobPriorityChanged& m);
  absl::Status On(const JobStateChanged& m);
  absl::Status On(const TaskGroupAdded& m);
  absl::Status On(const TaskAdded& m);
  absl::Status On(const JobTaskAdded& m);
  absl::Status On(const JobTaskRemoved& m);
  absl::Status On(const LeaseGranted& m);
  absl::Status On(const LeaseEnded& m);
  absl::Status On(const TaskStateChanged& m);
  absl::Status On(const ResultCommitted& m);
  absl::Status On(const DuplicateRecorded& m);
  absl::Status On(const EventAppended& m);
  absl::Status On(const WorkerTimeAdded& m);
  absl::Status On(const WorkerAttached& m);
  absl::Status On(const WorkerModeChanged& m);
  absl::Status On(const WorkerBlamed& m);
  absl::Status On(const WorkerReported& m);
  absl::Status On(const WorkerLivenessChanged& m);
  absl::Status On(const LeaseRenewed& m);
  absl::Status On(const JobWaits& m);
  absl::Status On(const WorkerInformed& m);
  absl::Status On(const TokenAdded& m);
  absl::Status On(const TokenRotated& m);
  absl::Status On(const TokenRevoked& m);
  absl::Status On(const AuditRecorded& m);

  absl::Status AddConfigurations(const JobAdded& m);
  absl::Status AddDocuments(JobNumber job, int first_ordinal,
                            const std::vector<JobDocument>& documents);
  absl::Status AddMeasurement(const ResultCommitted& m, const MeasuredRow& row);

  StatementCache& statements_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_
