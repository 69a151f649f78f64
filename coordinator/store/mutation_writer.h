#ifndef QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_
#define QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_

#include <vector>

#include "absl/status/status.h"

#include "coordinator/core/mutation.h"
#include "coordinator/store/row_ids.h"
#include "coordinator/store/statement_cache.h"

namespace qsweep {

// Turns a durable mutation into statements, inside the caller's transaction;
// memory-only ones do nothing. One overload per alternative: a mutation without
// one does not compile. Errors: as Statement::Step. Single-thread.
class MutationWriter {
 public:
  // Both must outlive it.
  MutationWriter(StatementCache& statements, RowIds& ids)
      : statements_(statements), ids_(ids) {}

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
  absl::Status On(const TaskForgotten& m);
  absl::Status On(const ResultCommitted& m);
  absl::Status On(const DuplicateRecorded& m);
  absl::Status On(const EventAppended& m);
  absl::Status On(const WorkerTimeAdded& m);
  absl::Status On(const WorkerAttached& m);
  absl::Status On(const WorkerModeChanged& m);
  absl::Status On(const WorkerForgotten& m);
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
  // operation "": seconds of a load. 0: not known.
  absl::Status AddNoise(const ResultCommitted& m);
  absl::Status AddSpeed(const SpeedSample& sample, const std::string& operation,
                        double value);
  absl::Status AddMeasurement(const ResultCommitted& m, const MeasuredRow& row);

  StatementCache& statements_;
  RowIds& ids_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_MUTATION_WRITER_H_
