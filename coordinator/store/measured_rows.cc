#include "coordinator/store/measured_rows.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

#include "common/base/status_macros.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/sql.h"

namespace qsweep {
namespace {

// Rows of configurations that nobody asked for are passed over up to this many
// in a row; then a look-up of its own is cheaper.
constexpr int64_t kPassedOver = 16;

}  // namespace

absl::StatusOr<std::vector<MeasuredRows::Place>> MeasuredRows::PlacesOf(
    absl::StatusOr<int64_t> (RowIds::*find)(const Digest&),
    std::span<const Digest> digests) {
  std::vector<Place> places;
  for (size_t i = 0; i < digests.size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(const int64_t id, (ids_.*find)(digests[i]));
    if (id != 0) {
      places.push_back({.id = id, .index = i});
    }
  }
  std::ranges::sort(places, {}, &Place::id);
  return places;
}

std::vector<std::span<const MeasuredRows::Place>> MeasuredRows::RunsOf(
    std::span<const Place> places) {
  std::vector<std::span<const Place>> runs;
  size_t first = 0;
  for (size_t i = 1; i <= places.size(); ++i) {
    if (i == places.size() || places[i].id - places[i - 1].id > kPassedOver) {
      runs.push_back(places.subspan(first, i - first));
      first = i;
    }
  }
  return runs;
}

template <typename Use>
absl::Status MeasuredRows::ForEach(const char* sql,
                                   absl::string_view evaluation,
                                   std::span<const Digest> configurations,
                                   std::span<const Digest> documents, Use use) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t evaluation_id,
                          ids_.Evaluation(evaluation));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Place> columns,
                          PlacesOf(&RowIds::Configuration, configurations));
  if (evaluation_id == 0 || columns.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Place> rows,
                          PlacesOf(&RowIds::Document, documents));
  // Mostly nobody has measured any of them.
  if (rows.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(Statement * any, statements_.Get(sql::kHasRows));
  any->BindAll(evaluation_id, rows.front().id, rows.back().id);
  QSWEEP_ASSIGN_OR_RETURN(const bool has_rows, any->Step());
  any->Reset();
  if (!has_rows) {
    return absl::OkStatus();
  }
  const std::vector<std::span<const Place>> runs = RunsOf(columns);
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql));
  for (const Place& document : rows) {
    for (const std::span<const Place> run : runs) {
      row->BindAll(evaluation_id, document.id, run.front().id, run.back().id);
      while (true) {
        QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
        if (!more) {
          break;
        }
        for (const Place& column :
             std::ranges::equal_range(run, row->Integer(0), {}, &Place::id)) {
          QSWEEP_RETURN_IF_ERROR(use(*row, column.index, document.index));
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::RowStatus>> MeasuredRows::Statuses(
    absl::string_view evaluation, std::span<const Digest> configurations,
    std::span<const Digest> documents) {
  std::vector<v1::RowStatus> statuses(configurations.size() * documents.size(),
                                      v1::ROW_STATUS_UNSPECIFIED);
  QSWEEP_RETURN_IF_ERROR(
      ForEach(sql::kReadStatuses, evaluation, configurations, documents,
              [&](const Statement& row, size_t c, size_t d) -> absl::Status {
                QSWEEP_ASSIGN_OR_RETURN(statuses[c * documents.size() + d],
                                        RowStatusFromText(row.View(1)));
                return absl::OkStatus();
              }));
  return statuses;
}

absl::StatusOr<std::vector<std::optional<StoredRow>>> MeasuredRows::Read(
    absl::string_view evaluation, std::span<const Digest> configurations,
    std::span<const Digest> documents) {
  std::vector<std::optional<StoredRow>> values(configurations.size() *
                                               documents.size());
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadMeasurements, evaluation, configurations, documents,
      [&](const Statement& row, size_t c, size_t d) -> absl::Status {
        StoredRow& stored = values[c * documents.size() + d].emplace();
        stored.engine = row.Text(1);
        stored.device = row.Text(2);
        QSWEEP_ASSIGN_OR_RETURN(stored.values, MeasurementColumns(row, 3));
        if (!row.IsNull(14)) {
          stored.values.set_codes(row.Text(14));
        }
        return absl::OkStatus();
      }));
  return values;
}

absl::StatusOr<std::vector<std::vector<Digest>>> MeasuredRows::Codes(
    std::span<const Digest> configurations) {
  std::vector<std::vector<Digest>> codes;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadCodes));
  for (const Digest& configuration : configurations) {
    codes.emplace_back();
    QSWEEP_ASSIGN_OR_RETURN(const int64_t id,
                            ids_.Configuration(configuration));
    row->BindAll(id);
    while (true) {
      QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
      if (!more) {
        break;
      }
      QSWEEP_ASSIGN_OR_RETURN(codes.back().emplace_back(),
                              DigestColumn(*row, 0));
    }
  }
  return codes;
}

absl::StatusOr<int64_t> MeasuredRows::CountSkipped(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> more) {
  DocumentKeys skipped;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadSkipped));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (!found) {
      break;
    }
    skipped.emplace(row->Integer(0), row->Integer(1));
  }
  QSWEEP_ASSIGN_OR_RETURN(const DocumentKeys keys,
                          FindJobKeys(job, evaluation, more));
  skipped.insert(keys.begin(), keys.end());
  return static_cast<int64_t>(skipped.size());
}

absl::StatusOr<MeasuredRows::DocumentKeys> MeasuredRows::FindJobKeys(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> keys) {
  DocumentKeys found;
  // A document is looked up until one of its configurations is the job's.
  absl::flat_hash_set<Digest> seen;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kFindJobKey));
  for (const SkippedKey& key : keys) {
    if (seen.contains(key.document)) {
      continue;
    }
    row->BindAll(job, Blob{key.configuration.bytes()}, evaluation,
                 Blob{key.document.bytes()});
    QSWEEP_ASSIGN_OR_RETURN(const bool is_job_key, row->Step());
    if (is_job_key) {
      seen.insert(key.document);
      found.emplace(row->Integer(0), row->Integer(1));
    }
  }
  row->Reset();
  return found;
}

absl::StatusOr<int64_t> MeasuredRows::CountMoreSkipped(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> more) {
  QSWEEP_ASSIGN_OR_RETURN(const DocumentKeys keys,
                          FindJobKeys(job, evaluation, more));
  int64_t count = 0;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kHasSkipped));
  for (const auto& [evaluation_id, document] : keys) {
    row->BindAll(job, evaluation_id, document);
    QSWEEP_ASSIGN_OR_RETURN(const bool counted, row->Step());
    count += counted ? 0 : 1;
  }
  row->Reset();
  return count;
}

}  // namespace qsweep
