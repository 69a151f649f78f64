#include "common/job/requirements.h"

#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "common/base/memory_limit.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr char kField[] = "policy.require";
constexpr size_t kLongestName = 64;
constexpr int kMostNames = 16;
constexpr uint64_t kLeastMemory = uint64_t{1} << 20;
constexpr uint64_t kMostMemory = uint64_t{1} << 50;
constexpr uint32_t kLeastCompute = 30;  // tenths
constexpr uint32_t kMostCompute = 999;

absl::Status Bad(std::string message) {
  return MakeError(kBadValue, message, kField,
                   "Write it like gpu=T4,vram>=14GiB,compute>=7.5.");
}

}  // namespace

absl::Status SetRequirement(absl::string_view key, absl::string_view value,
                            v1::Requirements& require) {
  if (key == "gpu") {
    require.add_gpus(std::string(value));
    return absl::OkStatus();
  }
  if (key == "vram") {
    if (require.memory_bytes() > 0) {
      return Bad("vram is asked for twice");
    }
    const std::optional<int64_t> bytes = ParseByteSize(value);
    if (!bytes) {
      return Bad(absl::StrCat("'", value, "' is no size of memory"));
    }
    const auto memory = static_cast<uint64_t>(*bytes);
    if (memory < kLeastMemory) {
      return Bad(absl::StrCat("vram of '", value, "' is below 1 MiB"));
    }
    require.set_memory_bytes(memory);
    return absl::OkStatus();
  }
  if (key == "compute") {
    if (require.compute_capability() > 0) {
      return Bad("compute is asked for twice");
    }
    double capability = 0;
    if (!absl::SimpleAtod(value, &capability) || !(capability >= 0.1) ||
        capability > kMostCompute) {
      return Bad(absl::StrCat("'", value, "' is no compute capability"));
    }
    require.set_compute_capability(
        static_cast<uint32_t>(std::lround(capability * 10)));
    return absl::OkStatus();
  }
  return Bad(absl::StrCat("'", key, "' is none of gpu, vram and compute"));
}

absl::StatusOr<v1::Requirements> ParseRequirements(absl::string_view text) {
  v1::Requirements require;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const size_t sign = part.find('=');
    if (sign == absl::string_view::npos) {
      return Bad(absl::StrCat("'", part, "' asks for nothing"));
    }
    const bool at_least = sign > 0 && part[sign - 1] == '>';
    const absl::string_view key =
        absl::StripAsciiWhitespace(part.substr(0, at_least ? sign - 1 : sign));
    if (at_least && key == "gpu") {
      return Bad("a GPU is named with '=', there is no order among them");
    }
    QSWEEP_RETURN_IF_ERROR(SetRequirement(
        key, absl::StripAsciiWhitespace(part.substr(sign + 1)), require));
  }
  QSWEEP_RETURN_IF_ERROR(CheckRequirements(require));
  return require;
}

absl::Status CheckRequirements(const v1::Requirements& require) {
  if (require.gpus_size() > kMostNames) {
    return Bad(absl::StrCat("more than ", kMostNames, " GPUs are named"));
  }
  for (const std::string& gpu : require.gpus()) {
    bool plain = !gpu.empty() && gpu.size() <= kLongestName;
    for (const char c : gpu) {
      plain = plain && (absl::ascii_isalnum(c) || c == ' ' || c == '-' ||
                        c == '_' || c == '.');
    }
    if (!plain) {
      return Bad("a GPU's name is 1 to 64 letters, digits, spaces, - _ or .");
    }
  }
  const uint64_t memory = require.memory_bytes();
  if (memory > 0 && (memory < kLeastMemory || memory > kMostMemory)) {
    return Bad(
        absl::StrCat("vram of ", memory, " bytes is not 1 MiB to 1 PiB"));
  }
  const uint32_t compute = require.compute_capability();
  if (compute > 0 && (compute < kLeastCompute || compute > kMostCompute)) {
    return Bad(absl::StrFormat("compute capability %.1f is not 3.0 to 99.9",
                               compute / 10.0));
  }
  return absl::OkStatus();
}

std::string FormatRequirements(const v1::Requirements& require) {
  std::vector<std::string> parts;
  if (!require.gpus().empty()) {
    parts.push_back(absl::StrCat(
        "gpu: [",
        absl::StrJoin(require.gpus(), ", ",
                      [](std::string* out, const std::string& gpu) {
                        absl::StrAppend(out, "\"", gpu, "\"");
                      }),
        "]"));
  }
  if (require.memory_bytes() > 0) {
    parts.push_back(absl::StrCat("vram: ", require.memory_bytes()));
  }
  if (require.compute_capability() > 0) {
    parts.push_back(
        absl::StrFormat("compute: %.1f", require.compute_capability() / 10.0));
  }
  return parts.empty() ? ""
                       : absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

}  // namespace qsweep
