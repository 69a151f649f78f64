#ifndef QSWEEP_COMMON_JOB_QUANTIZER_NAMES_H_
#define QSWEEP_COMMON_JOB_QUANTIZER_NAMES_H_

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/job/quantizer.h"

// The words of quantizer texts, and the defaults that a text may leave out:
// what parsing and writing them share.
namespace qsweep {

inline constexpr auto kMethodNames =
    std::to_array<std::pair<Method, const char*>>(
        {{Method::kRtn, "rtn"},
         {Method::kNf4, "nf4"},
         {Method::kHqq, "hqq"},
         {Method::kGptq, "gptq"},
         {Method::kAwq, "awq"},
         {Method::kCheckpoint, "checkpoint"}});
inline constexpr auto kGranularityNames =
    std::to_array<std::pair<Granularity, const char*>>(
        {{Granularity::kTensor, "tensor"},
         {Granularity::kChannel, "channel"},
         {Granularity::kGroup, "group"}});
inline constexpr auto kGridNames = std::to_array<std::pair<Grid, const char*>>(
    {{Grid::kAbsmax, "absmax"}, {Grid::kGptq, "gptq"}, {Grid::kAwq, "awq"}});
inline constexpr auto kArithmeticNames =
    std::to_array<std::pair<Arithmetic, const char*>>(
        {{Arithmetic::kFp32, "fp32"}, {Arithmetic::kFp16, "fp16"}});
inline constexpr auto kScaleNames =
    std::to_array<std::pair<ScaleStorage, const char*>>(
        {{ScaleStorage::kFp32, "fp32"}, {ScaleStorage::kFp16, "fp16"}});
inline constexpr auto kCalibrationModeNames =
    std::to_array<std::pair<CalibrationMode, const char*>>(
        {{CalibrationMode::kFp, "fp"},
         {CalibrationMode::kQpath, "qpath"},
         {CalibrationMode::kExact, "exact"}});
inline constexpr auto kComputeNames =
    std::to_array<std::pair<Compute, const char*>>({{Compute::kFp32, "fp32"},
                                                    {Compute::kBf16, "bf16"},
                                                    {Compute::kFp16, "fp16"}});
inline constexpr auto kScopeNames =
    std::to_array<std::pair<Scope, const char*>>(
        {{Scope::kLinear, "linear"},
         {Scope::kP5Weights, "p5-weights"},
         {Scope::kP5All, "p5-all"},
         {Scope::kP5Final, "p5-final"},
         {Scope::kGpu, "gpu"},
         {Scope::kGpu001, "gpu001"},
         {Scope::kFairnessCli, "fairness-cli"}});

template <typename Enum, size_t N>
const char* NameOf(const std::array<std::pair<Enum, const char*>, N>& names,
                   Enum value) {
  for (const auto& [known, name] : names) {
    if (known == value) {
      return name;
    }
  }
  QSWEEP_CHECK(false);
}

template <typename Enum, size_t N>
std::vector<std::string> AllNames(
    const std::array<std::pair<Enum, const char*>, N>& names) {
  std::vector<std::string> all;
  for (const auto& entry : names) {
    all.emplace_back(entry.second);
  }
  return all;
}

// The scheme of the earlier work's presets, at 4 bits.
inline Scheme UpstreamScheme() {
  return {.granularity = Granularity::kTensor, .group = 0};
}

// Of gptq: as its authors' program has it.
inline constexpr int kDefaultDampMillionths = 10'000;

// What packed gptq checkpoints hold.
inline bool IsGptqBits(int bits) {
  return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

// Of hqq: as in the configuration helper of its authors' package.
inline bool DefaultRoundZero(int bits) { return bits == 4; }

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_QUANTIZER_NAMES_H_
