#ifndef QSWEEP_COMMON_JOB_JOB_SPEC_NAMES_H_
#define QSWEEP_COMMON_JOB_JOB_SPEC_NAMES_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "qsweep/v1/job.pb.h"

namespace qsweep {

// How spec files spell the enums of JobSpec. Private to common/job.

inline constexpr char kSpecVersion[] = "qctl/v1";

template <typename Enum>
struct EnumName {
  Enum value;
  const char* name;
};

inline constexpr std::array<EnumName<v1::JobKind>, 4> kKindNames = {
    {{v1::JOB_KIND_LAYER_SWEEP, "LayerSweep"},
     {v1::JOB_KIND_CROSS_MODEL, "CrossModel"},
     {v1::JOB_KIND_CONFIGS, "Configs"},
     {v1::JOB_KIND_MMLU, "Mmlu"}}};
inline constexpr std::array<EnumName<v1::Compute>, 3> kProtoComputeNames = {
    {{v1::COMPUTE_FP32, "fp32"},
     {v1::COMPUTE_BF16, "bf16"},
     {v1::COMPUTE_FP16, "fp16"}}};
inline constexpr std::array<EnumName<v1::Reuse>, 3> kReuseNames = {
    {{v1::REUSE_AUTO, "auto"},
     {v1::REUSE_NEVER, "never"},
     {v1::REUSE_REQUIRE, "require"}}};

template <typename Enum, size_t N>
std::optional<Enum> FindValue(const std::array<EnumName<Enum>, N>& names,
                              absl::string_view text) {
  for (const EnumName<Enum>& entry : names) {
    if (text == entry.name) {
      return entry.value;
    }
  }
  return std::nullopt;
}

// "" for a value that has no name.
template <typename Enum, size_t N>
std::string FindName(const std::array<EnumName<Enum>, N>& names, Enum value) {
  for (const EnumName<Enum>& entry : names) {
    if (entry.value == value) {
      return entry.name;
    }
  }
  return "";
}

template <typename Enum, size_t N>
std::vector<std::string> NamesOf(const std::array<EnumName<Enum>, N>& names) {
  std::vector<std::string> all;
  for (const EnumName<Enum>& entry : names) {
    all.emplace_back(entry.name);
  }
  return all;
}

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_JOB_SPEC_NAMES_H_
