#include "common/rpc/failure.h"

#include <cstddef>
#include <optional>
#include <string>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr size_t kMaxMessageBytes = 3000;  // gRPC caps the metadata at 8 KiB
constexpr size_t kMaxDetailBytes = 1000;
constexpr int kHighestStatusCode = 16;  // UNAUTHENTICATED

// What one worker says of its own machine although the status sounds like the
// input's fault, and the other way round. Codes that are not here go by status.
struct Fault {
  const ErrorCode* code;
  bool retryable;
};
constexpr Fault kFaults[] = {
    {&kModelNotFound, true},        // at this path on this machine
    {&kModelDigestMismatch, true},  // another model is there
    {&kTruncatedModel, true},       // the copy here is damaged: what was
    {&kCorruptModel, true},         // submitted could be read
    {&kMissingTensor, true},
    {&kBadModelConfig, true},
    {&kTensorShapeMismatch, true},
    {&kNonFiniteWeights, false},  // the model itself, its digest was right
    {&kNoRopeBase, false},        // likewise
    {&kArtifactMismatch, true},   // bytes damaged on the way
    {&kEngineMissing, true},
    {&kSelfCheckFailed, true},
    {&kOutOfMemory, true},  // another device may have more
    {&kBadResult, true},    // of this engine
};

// Bytes of the valid UTF-8 character text starts with; 0: none.
size_t CharacterSize(absl::string_view text) {
  const auto byte = [&](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned char first = byte(0);
  const size_t size = first < 0x80                    ? 1
                      : first >= 0xC2 && first < 0xE0 ? 2
                      : first >= 0xE0 && first < 0xF0 ? 3
                      : first >= 0xF0 && first < 0xF5 ? 4
                                                      : 0;
  if (size == 0 || size > text.size()) {
    return 0;
  }
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  const bool overlong =
      (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool surrogate = first == 0xED && byte(1) >= 0xA0;
  const bool beyond = first == 0xF4 && byte(1) >= 0x90;
  return overlong || surrogate || beyond ? 0 : size;
}

}  // namespace

std::string CleanText(absl::string_view text, size_t max_bytes) {
  std::string clean;
  while (!text.empty()) {
    const size_t size = CharacterSize(text);
    const size_t added = size == 0 ? 1 : size;
    if (clean.size() + added > max_bytes) {
      break;
    }
    if (size == 0) {
      clean.push_back('?');
    } else {
      clean.append(text.data(), size);
    }
    text.remove_prefix(added);
  }
  return clean;
}

v1::Failure FailureFromStatus(const absl::Status& status, bool retryable) {
  QSWEEP_CHECK(!status.ok());
  v1::Failure failure;
  failure.set_status_code(static_cast<int>(status.code()));
  failure.set_message(CleanText(status.message(), kMaxMessageBytes));
  failure.set_retryable(retryable);
  if (const std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    failure.mutable_detail()->set_code(CleanText(info->code, kMaxDetailBytes));
    failure.mutable_detail()->set_field(
        CleanText(info->field, kMaxDetailBytes));
    failure.mutable_detail()->set_hint(CleanText(info->hint, kMaxDetailBytes));
  }
  return failure;
}

absl::Status StatusFromFailure(const v1::Failure& failure) {
  const int code = failure.status_code();
  const bool known = code > 0 && code <= kHighestStatusCode;
  absl::Status status(
      known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      failure.message());
  if (failure.has_detail()) {
    SetErrorInfo(status, {failure.detail().code(), failure.detail().field(),
                          failure.detail().hint()});
  }
  return status;
}

bool IsRetryable(const absl::Status& status) {
  if (const std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    for (const Fault& fault : kFaults) {
      if (info->code == fault.code->code) {
        return fault.retryable;
      }
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kUnimplemented:
      return false;
    default:
      return true;
  }
}

}  // namespace qsweep
