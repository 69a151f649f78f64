#include "coordinator/store/codec.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr std::pair<v1::JobState, const char*> kJobStates[] = {
    {v1::JOB_STATE_PLANNING, "planning"},
    {v1::JOB_STATE_QUEUED, "queued"},
    {v1::JOB_STATE_RUNNING, "running"},
    {v1::JOB_STATE_PAUSED, "paused"},
    {v1::JOB_STATE_STOPPING, "stopping"},
    {v1::JOB_STATE_SUCCEEDED, "succeeded"},
    {v1::JOB_STATE_FAILED, "failed"},
    {v1::JOB_STATE_CANCELLED, "cancelled"},
};
constexpr std::pair<v1::JobKind, const char*> kJobKinds[] = {
    {v1::JOB_KIND_LAYER_SWEEP, "layer_sweep"},
    {v1::JOB_KIND_CROSS_MODEL, "cross_model"},
    {v1::JOB_KIND_CONFIGS, "configs"},
    {v1::JOB_KIND_MMLU, "mmlu"},
};
constexpr std::pair<v1::TaskState, const char*> kTaskStates[] = {
    {v1::TASK_STATE_BLOCKED, "blocked"},
    {v1::TASK_STATE_READY, "ready"},
    {v1::TASK_STATE_LEASED, "leased"},
    {v1::TASK_STATE_BACKOFF, "backoff"},
    {v1::TASK_STATE_QUARANTINED, "quarantined"},
    {v1::TASK_STATE_DONE, "done"},
    {v1::TASK_STATE_CANCELLED, "cancelled"},
};
constexpr std::pair<v1::RowStatus, const char*> kRowStatuses[] = {
    {v1::ROW_STATUS_OK, "ok"},
    {v1::ROW_STATUS_ONE_TOKEN, "one_token"},
    {v1::ROW_STATUS_TOO_LONG, "too_long"},
    {v1::ROW_STATUS_EMPTY, "empty"},
};
constexpr std::pair<v1::TokenKind, const char*> kTokenKinds[] = {
    {v1::TOKEN_KIND_ACCESS, "access"},
    {v1::TOKEN_KIND_JOIN, "join"},
};
constexpr std::pair<v1::Role, const char*> kRoles[] = {
    {v1::ROLE_READ, "read"},
    {v1::ROLE_SUBMIT, "submit"},
    {v1::ROLE_WORKER, "worker"},
    {v1::ROLE_ADMIN, "admin"},
};

template <typename Enum, size_t kSize>
absl::string_view ToText(const std::pair<Enum, const char*> (&names)[kSize],
                         Enum value) {
  for (const auto& [candidate, name] : names) {
    if (candidate == value) {
      return name;
    }
  }
  QSWEEP_CHECK(false && "an enum value that the core never stores");
  return "";
}

template <typename Enum, size_t kSize>
absl::StatusOr<Enum> FromText(
    const std::pair<Enum, const char*> (&names)[kSize],
    absl::string_view text) {
  for (const auto& [value, name] : names) {
    if (text == name) {
      return value;
    }
  }
  return DamagedColumn(text);
}

constexpr size_t kPackedDocument = Digest::kSize + 4;

}  // namespace

absl::string_view JobStateText(v1::JobState state) {
  return ToText(kJobStates, state);
}
absl::string_view JobKindText(v1::JobKind kind) {
  return ToText(kJobKinds, kind);
}
absl::string_view TaskStateText(v1::TaskState state) {
  return ToText(kTaskStates, state);
}
absl::string_view RowStatusText(v1::RowStatus status) {
  return ToText(kRowStatuses, status);
}
absl::string_view TokenKindText(v1::TokenKind kind) {
  return ToText(kTokenKinds, kind);
}
absl::string_view RoleText(v1::Role role) { return ToText(kRoles, role); }
absl::StatusOr<v1::TokenKind> TokenKindFromText(absl::string_view text) {
  return FromText(kTokenKinds, text);
}
absl::StatusOr<v1::Role> RoleFromText(absl::string_view text) {
  return FromText(kRoles, text);
}
absl::StatusOr<v1::JobState> JobStateFromText(absl::string_view text) {
  return FromText(kJobStates, text);
}
absl::StatusOr<v1::TaskState> TaskStateFromText(absl::string_view text) {
  return FromText(kTaskStates, text);
}
absl::StatusOr<v1::RowStatus> RowStatusFromText(absl::string_view text) {
  return FromText(kRowStatuses, text);
}

absl::StatusOr<LeaseEnd> LeaseEndFromText(absl::string_view text) {
  for (const LeaseEnd end :
       {LeaseEnd::kCommitted, LeaseEnd::kSuperseded, LeaseEnd::kFailed,
        LeaseEnd::kStalled, LeaseEnd::kLost, LeaseEnd::kPreempted,
        LeaseEnd::kCancelled}) {
    if (text == LeaseEndName(end)) {
      return end;
    }
  }
  return DamagedColumn(text);
}

absl::StatusOr<WorkerMode> WorkerModeFromText(absl::string_view text) {
  for (const WorkerMode mode :
       {WorkerMode::kOpen, WorkerMode::kDraining, WorkerMode::kQuarantined}) {
    if (text == WorkerModeName(mode)) {
      return mode;
    }
  }
  return DamagedColumn(text);
}

std::string PackDocuments(const std::vector<TaskDocumentKey>& documents) {
  std::string packed;
  packed.reserve(documents.size() * kPackedDocument);
  for (const TaskDocumentKey& document : documents) {
    packed.append(document.digest.bytes());
    for (int shift = 0; shift < 32; shift += 8) {
      packed.push_back(static_cast<char>(document.language_index >> shift));
    }
  }
  return packed;
}

absl::StatusOr<size_t> CountDocuments(absl::string_view packed) {
  if (packed.size() % kPackedDocument != 0) {
    return DamagedColumn("documents");
  }
  return packed.size() / kPackedDocument;
}

TaskDocumentKey UnpackDocument(absl::string_view packed, size_t index) {
  packed = packed.substr(index * kPackedDocument, kPackedDocument);
  TaskDocumentKey document{
      .digest = *Digest::FromBytes(packed.substr(0, Digest::kSize))};
  for (int i = 3; i >= 0; --i) {
    const auto byte = static_cast<unsigned char>(
        packed[Digest::kSize + static_cast<size_t>(i)]);
    document.language_index = document.language_index << 8 | byte;
  }
  return document;
}

absl::StatusOr<std::vector<TaskDocumentKey>> UnpackDocuments(
    absl::string_view packed) {
  QSWEEP_ASSIGN_OR_RETURN(const size_t count, CountDocuments(packed));
  std::vector<TaskDocumentKey> documents;
  documents.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    documents.push_back(UnpackDocument(packed, i));
  }
  return documents;
}

absl::Status DamagedColumn(absl::string_view what) {
  return MakeError(kDamagedDatabase,
                   absl::StrCat("the database holds a value that qsweep never "
                                "writes: ",
                                what),
                   "", "restore a backup, or start on another directory");
}

absl::StatusOr<Digest> DigestColumn(const Statement& row, int column) {
  absl::StatusOr<Digest> digest = Digest::FromBytes(row.View(column));
  if (!digest.ok()) {
    return DamagedColumn(row.ColumnName(column));
  }
  return digest;
}

absl::StatusOr<v1::Measurement> MeasurementColumns(const Statement& row,
                                                   int first) {
  v1::Measurement values;
  QSWEEP_ASSIGN_OR_RETURN(const v1::RowStatus status,
                          RowStatusFromText(row.View(first)));
  values.set_status(status);
  values.set_nll_sum(row.Real(first + 1));
  values.set_nll_fp_sum(row.Real(first + 2));
  values.set_unigram_nll_sum(row.Real(first + 3));
  const auto count = [&](int column) {
    return static_cast<uint64_t>(row.Integer(column));
  };
  values.set_tokens(count(first + 4));
  values.set_bytes(count(first + 5));
  values.set_bytes_scored(count(first + 6));
  values.set_chars(count(first + 7));
  if (!row.IsNull(first + 8)) {
    values.set_kl_sum(row.Real(first + 8));
  }
  if (!row.IsNull(first + 9)) {
    values.set_top1(count(first + 9));
  }
  values.set_nonfinite(count(first + 10));
  return values;
}

}  // namespace qsweep
