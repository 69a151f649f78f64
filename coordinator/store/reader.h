#ifndef QSWEEP_COORDINATOR_STORE_READER_H_
#define QSWEEP_COORDINATOR_STORE_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "coordinator/core/mutation.h"
#include "coordinator/store/backup.h"
#include "coordinator/store/read_gate.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// All rows of a job, and what their indexes mean.
struct JobRows {
  v1::JobSpec spec;
  v1::Corpus corpus;  // all its languages, under the name it was added first
  std::vector<v1::ModelDescription> models;
  // Parallel to models: the largest noise floor of the job's compute mode, nats
  // per token; 0: not measured.
  std::vector<double> noise_floors;
  std::vector<JobConfiguration> configurations;
  std::vector<JobEvaluation> evaluations;
  std::vector<JobDocument> documents;
  struct Row {
    int configuration = 0;
    int evaluation = 0;
    int document = 0;
    v1::Measurement values;  // its index fields are undefined
  };
  std::vector<Row> rows;  // sorted by the three indexes; holes while it runs
};

// What a job was planned from, and its plan.
struct JobSource {
  v1::JobSpec spec;
  v1::JobPlan plan;
  std::vector<v1::ModelDescription> models;  // parallel to spec.models
  // All its languages, under the name it was added first.
  std::shared_ptr<const v1::Corpus> corpus;
  std::shared_ptr<const v1::Corpus> calibration_corpus;  // null: none
};

// Where a page of an export begins: after this document of the configuration.
struct ExportPosition {
  std::string evaluation;
  std::string language;
  std::string document;
  int64_t ordinal = -1;  // of the document in the job
};

// The stored rows of a run of documents, in identity order.
struct ExportPage {
  std::vector<v1::MeasurementRow> rows;
  std::optional<ExportPosition> next;  // where the next one begins; none: ended
};

// A part of an artifact.
struct ArtifactPart {
  uint64_t total_size = 0;
  std::string data;
};

// A read-only connection, which can neither write nor checkpoint. A snapshot
// lives for a statement, of 2 s at most, so no reader pins the WAL for long;
// but those of queries, exports, backups and checks may take longer.
// Single-thread; each reader thread has its own.
// Errors besides those said: DEADLINE_EXCEEDED QS4011, DATA_LOSS QS4006.
class Reader {
 public:
  // directory: the coordinator's; its database and analysis cache exist. clock
  // outlives the reader. gate: the store's; each read waits before it begins.
  // Null: none does.
  static absl::StatusOr<std::unique_ptr<Reader>> Open(
      const std::string& directory, const Clock& clock,
      std::shared_ptr<ReadGate> gate = nullptr);
  virtual ~Reader() = default;

  // All jobs that were not deleted, ascending.
  virtual absl::StatusOr<std::vector<JobNumber>> ReadJobNumbers() = 0;
  // Takes seconds for a large corpus. NOT_FOUND QS4020.
  virtual absl::StatusOr<JobSource> ReadJobSource(JobNumber job) = 0;
  // Of the job's documents, first seen first; looks at each of them.
  virtual absl::StatusOr<std::vector<std::string>> ReadJobLanguages(
      JobNumber job) = 0;
  // Ids of a job's configurations in the order of the measurement export.
  virtual absl::StatusOr<std::vector<int64_t>> ExportConfigurations(
      JobNumber job) = 0;
  // The stored rows of one of them, of this many documents (at least one) from
  // `from` on.
  virtual absl::StatusOr<ExportPage> ExportRows(JobNumber job,
                                                int64_t configuration,
                                                const ExportPosition& from,
                                                int64_t documents) = 0;
  // stop: asked every few milliseconds; empty: never. NOT_FOUND QS4020;
  // CANCELLED once it is true.
  virtual absl::StatusOr<JobRows> ReadJobRows(
      JobNumber job, const std::function<bool()>& stop) = 0;
  // The corpus that a spec names, as ResolveCorpus has it. NOT_FOUND QS2113.
  virtual absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadCorpus(
      const std::string& name_or_digest) = 0;
  // At most `limit` bytes from `offset` on. NOT_FOUND QS4041.
  virtual absl::StatusOr<ArtifactPart> ReadArtifact(const Digest& digest,
                                                    uint64_t offset,
                                                    uint64_t limit) = 0;
  // One SELECT over the documented views; query_guard.h has the rules.
  // INVALID_ARGUMENT QS4010, QS4012; DEADLINE_EXCEEDED QS4011. stop: as above.
  virtual absl::StatusOr<v1::QueryResponse> Query(
      const v1::QueryRequest& request, const std::function<bool()>& stop) = 0;
  // As backup.h, of the directory this reads. They take a second per few
  // hundred megabytes.
  virtual absl::StatusOr<BackupInfo> BackUp(int keep) = 0;
  virtual absl::StatusOr<std::vector<std::string>> FindProblems() = 0;
};

// Who waits for a read, the first first. kQuick: workers for a part of an
// artifact, submits for a corpus. kShow: a user for a look at one job. kLong: a
// user for what may take many seconds: a query, an export, results, a backup.
enum class ReadKind { kQuick, kShow, kLong };

// A few threads with a Reader each. What takes long, or blocks, runs here:
// never on the loop or on a thread of gRPC. Thread-safe.
class ReaderPool {
 public:
  // Opens the readers; errors as Reader::Open.
  static absl::StatusOr<std::unique_ptr<ReaderPool>> Start(
      const std::string& directory, const Clock& clock, int num_threads = 4,
      const std::shared_ptr<ReadGate>& gate = nullptr);

  // Runs what is queued, then ends the threads.
  virtual ~ReaderPool() = default;

  // Calls job on one of the threads, in order of Post within its kind. Of four
  // threads two at most run kLong, and three kLong and kShow, so that no kind
  // waits for a later one. RESOURCE_EXHAUSTED QS4040: too many of its kind
  // wait, and it is never called.
  virtual absl::Status Post(ReadKind kind,
                            std::function<void(Reader&)> job) = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_READER_H_
