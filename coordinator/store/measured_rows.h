#ifndef QSWEEP_COORDINATOR_STORE_MEASURED_ROWS_H_
#define QSWEEP_COORDINATOR_STORE_MEASURED_ROWS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/base/ids.h"
#include "coordinator/store/row_ids.h"
#include "coordinator/store/statement_cache.h"
#include "coordinator/store/store.h"

namespace qsweep {

// What the table of measurements has of some keys, and of a job's skipped
// documents: the look-ups of store.h of the same names. Inside the caller's
// transaction, if there is one. Errors: as Statement::Step. Single-thread.
class MeasuredRows {
 public:
  // Both must outlive it.
  MeasuredRows(StatementCache& statements, RowIds& ids)
      : statements_(statements), ids_(ids) {}

  // Store::MeasuredStatuses and ReadMeasurements.
  absl::StatusOr<std::vector<v1::RowStatus>> Statuses(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents);
  absl::StatusOr<std::vector<std::optional<StoredRow>>> Read(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents);
  absl::StatusOr<std::vector<std::vector<Digest>>> Codes(
      std::span<const Digest> configurations);
  absl::StatusOr<int64_t> CountSkipped(JobNumber job,
                                       absl::string_view evaluation,
                                       std::span<const SkippedKey> more);
  absl::StatusOr<int64_t> CountMoreSkipped(JobNumber job,
                                           absl::string_view evaluation,
                                           std::span<const SkippedKey> more);

 private:
  // Where something that is stored stands in what was asked for.
  struct Place {
    int64_t id = 0;
    size_t index = 0;
  };
  // Ids of evaluations and documents.
  using DocumentKeys = std::set<std::pair<int64_t, int64_t>>;

  // The places of what is stored of them, by id.
  absl::StatusOr<std::vector<Place>> PlacesOf(
      absl::StatusOr<int64_t> (RowIds::*find)(const Digest&),
      std::span<const Digest> digests);
  // Cuts places, sorted by id, at the gaps.
  static std::vector<std::span<const Place>> RunsOf(
      std::span<const Place> places);
  // use(statement, index of configuration, index of document) for each stored
  // row of configurations x documents. The configuration's id is column 0 of
  // the statement, which reads a range of them of one document.
  template <typename Use>
  absl::Status ForEach(const char* sql, absl::string_view evaluation,
                       std::span<const Digest> configurations,
                       std::span<const Digest> documents, Use use);
  // Those of `keys` under `evaluation` that are the job's.
  absl::StatusOr<DocumentKeys> FindJobKeys(JobNumber job,
                                           absl::string_view evaluation,
                                           std::span<const SkippedKey> keys);

  StatementCache& statements_;
  RowIds& ids_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_MEASURED_ROWS_H_
