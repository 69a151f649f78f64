#ifndef QSWEEP_COORDINATOR_STORE_STORE_H_
#define QSWEEP_COORDINATOR_STORE_STORE_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/commit.h"
#include "coordinator/core/mutation.h"
#include "coordinator/core/state.h"

namespace qsweep {

// What is durable of a job and not in State.
struct StoredJob {
  v1::JobSpec spec;
  std::vector<Digest> models;  // parallel to spec.models
  Digest corpus;
};

// The disk, as intentions: batches of mutations, and the few reads that
// decisions need. Single-thread: the loop's; readers of rows open handles of
// their own. One Store per directory, also across processes.
//
// Reads return what was committed. Errors of reads: NOT_FOUND as said;
// DATA_LOSS (QS4006) a stored value that cannot be, or what Health tells;
// INTERNAL a defect.
class Store {
 public:
  virtual ~Store() = default;

  // Everything State is made of. Any number of times: at the start, and after
  // a Commit that failed.
  virtual absl::StatusOr<StateSnapshot> Load() = 0;

  // Writes the batch's durable mutations, in order, in one transaction; if of
  // none, it ends the snapshot of the reads. OK: all survive a power cut.
  // After INTERNAL and RESOURCE_EXHAUSTED nothing was written:
  //   INTERNAL            a statement failed and was rolled back (a defect, or
  //                       one mutation that breaks a constraint);
  //   RESOURCE_EXHAUSTED  QS4004, the disk is full;
  //   UNAVAILABLE         COMMIT itself failed: all or nothing, unknown which;
  //                       Load tells;
  //   DATA_LOSS           QS4006, I/O error or corruption: unknown as well;
  //                       the process must end, the store refuses everything
  //                       from then on.
  virtual absl::Status Commit(std::span<const Mutation> batch) = 0;

  // OK, or the DATA_LOSS QS4006 after which the process must end: a read or a
  // write of the database met an I/O error or a damaged page. A call that met
  // it answers with it, and may be repeated once the process was started again.
  virtual absl::Status Health() const = 0;

  // Status of each stored measurement, [configurations, documents] row-major;
  // ROW_STATUS_UNSPECIFIED: not measured.
  virtual absl::StatusOr<std::vector<v1::RowStatus>> MeasuredStatuses(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) = 0;

  // The stored values themselves, same shape; nothing: not measured. The two
  // index fields of the values are undefined.
  virtual absl::StatusOr<std::vector<std::optional<StoredRow>>>
  ReadMeasurements(absl::string_view evaluation,
                   std::span<const Digest> configurations,
                   std::span<const Digest> documents) = 0;

  // The digests of codes that rows of each configuration have, parallel to
  // configurations.
  virtual absl::StatusOr<std::vector<std::vector<Digest>>> ReadCodes(
      std::span<const Digest> configurations) = 0;

  // Different (evaluation, document) of the job that have a row of its
  // configurations that is not OK: stored, or among `more`, which are to be
  // stored under `evaluation`.
  virtual absl::StatusOr<int64_t> CountSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) = 0;
  // How many `more` add to that count. Takes no longer for a larger job.
  virtual absl::StatusOr<int64_t> CountMoreSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) = 0;

  // Spec of any task, DONE ones too. NOT_FOUND QS4021.
  virtual absl::StatusOr<v1::TaskSpec> ReadTaskSpec(TaskId task) = 0;
  // NOT_FOUND QS4020.
  virtual absl::StatusOr<StoredJob> ReadJob(JobNumber job) = 0;
  // Its plan alone, in a time that does not grow with the job. NOT_FOUND
  // QS4020.
  virtual absl::StatusOr<v1::JobPlan> ReadPlan(JobNumber job) = 0;
  // NOT_FOUND.
  virtual absl::StatusOr<std::shared_ptr<const v1::ModelDescription>> ReadModel(
      const Digest& digest) = 0;
  // NOT_FOUND QS2113.
  virtual absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadCorpus(
      const Digest& digest) = 0;
  // At most `limit` events of a job above `after`, ascending by seq.
  virtual absl::StatusOr<std::vector<v1::DurableEvent>> ReadEvents(
      JobNumber job, EventSeq after, int limit) = 0;
  // Which of the artifacts are stored, parallel to digests.
  virtual absl::StatusOr<std::vector<bool>> HasArtifacts(
      std::span<const Digest> digests) = 0;

  // Whether this result of the attempt is kept as a duplicate.
  virtual absl::StatusOr<bool> HasDuplicate(TaskId task, Epoch epoch,
                                            const Digest& payload_digest) = 0;

  // Workers that no lease and no duplicate names: what WorkerForgotten may
  // delete. In a time that grows with the workers and the duplicates.
  virtual absl::StatusOr<std::vector<WorkerUuid>> UnusedWorkers() = 0;

  // Deletes about so many rows of jobs that were purged, in a transaction of
  // its own. True: there is more to delete. RESOURCE_EXHAUSTED QS4004.
  virtual absl::StatusOr<bool> Purge(int rows) = 0;

  // Called when there is nothing else to do: checkpoints the WAL.
  // RESOURCE_EXHAUSTED QS4004: no room; nothing is lost.
  virtual absl::Status Idle() = 0;
  // Frees the disk space kept aside, so that results still commit when the
  // disk is full. No effect when it is free already.
  virtual absl::Status ReleaseReserve() = 0;
  // Takes the space again. RESOURCE_EXHAUSTED: still full.
  virtual absl::Status RestoreReserve() = 0;

  struct Info {
    std::string engine_version;  // of SQLite
    int64_t database_bytes = 0;
    // Written to the log since it was begun anew. It grows while somebody reads
    // an old state of the database.
    int64_t wal_bytes = 0;
  };
  virtual absl::StatusOr<Info> GetInfo() = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_STORE_H_
