#ifndef QSWEEP_COORDINATOR_STORE_CODEC_H_
#define QSWEEP_COORDINATOR_STORE_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/digest.h"
#include "coordinator/core/mutation.h"
#include "coordinator/store/sqlite.h"

namespace qsweep {

// How the values of the core stand in columns. What is read was written by
// these functions, so a value that does not fit is DATA_LOSS QS4006.

absl::string_view JobStateText(v1::JobState state);     // "running"
absl::string_view JobKindText(v1::JobKind kind);        // "layer_sweep"
absl::string_view TaskStateText(v1::TaskState state);   // "ready"
absl::string_view RowStatusText(v1::RowStatus status);  // "one_token"
absl::string_view TokenKindText(v1::TokenKind kind);    // "join"
absl::string_view RoleText(v1::Role role);              // "worker"
absl::StatusOr<v1::TokenKind> TokenKindFromText(absl::string_view text);
absl::StatusOr<v1::Role> RoleFromText(absl::string_view text);
absl::StatusOr<v1::JobState> JobStateFromText(absl::string_view text);
absl::StatusOr<v1::TaskState> TaskStateFromText(absl::string_view text);
absl::StatusOr<v1::RowStatus> RowStatusFromText(absl::string_view text);
absl::StatusOr<LeaseEnd> LeaseEndFromText(absl::string_view text);
absl::StatusOr<WorkerMode> WorkerModeFromText(absl::string_view text);

// 36 bytes a document: its digest, then the index of its language.
std::string PackDocuments(const std::vector<TaskDocumentKey>& documents);
absl::StatusOr<std::vector<TaskDocumentKey>> UnpackDocuments(
    absl::string_view packed);
// The same piece by piece: how many, and one of them.
absl::StatusOr<size_t> CountDocuments(absl::string_view packed);
TaskDocumentKey UnpackDocument(absl::string_view packed, size_t index);

absl::Status DamagedColumn(absl::string_view what);

absl::StatusOr<Digest> DigestColumn(const Statement& row, int column);

template <typename Uuid>
absl::StatusOr<Uuid> UuidColumn(const Statement& row, int column) {
  absl::StatusOr<Uuid> uuid = Uuid::FromBytes(row.View(column));
  if (!uuid.ok()) {
    return DamagedColumn(row.ColumnName(column));
  }
  return uuid;
}

template <typename Message>
absl::StatusOr<Message> ProtoColumn(const Statement& row, int column) {
  Message message;
  const absl::string_view bytes = row.View(column);
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return DamagedColumn(row.ColumnName(column));
  }
  return message;
}

// From column `first` on: status, nll_sum, nll_fp_sum, unigram_nll_sum, tokens,
// bytes, bytes_scored, chars, kl_sum, top1, nonfinite.
absl::StatusOr<v1::Measurement> MeasurementColumns(const Statement& row,
                                                   int first);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_CODEC_H_
