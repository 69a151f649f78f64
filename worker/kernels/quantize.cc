#include "worker/kernels/quantize.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/kernels/hqq.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {
namespace {

absl::Status CheckBits(const Scheme& scheme) {
  if (scheme.bits < 2 || scheme.bits > 8) {
    return MakeError(kUnsupportedBits, absl::StrCat(scheme.bits, " bits"),
                     "bits", "Use 2 to 8.");
  }
  return absl::OkStatus();
}

absl::Status CheckRtn(const Scheme& scheme, int64_t cols) {
  QSWEEP_RETURN_IF_ERROR(CheckBits(scheme));
  if (scheme.granularity == Granularity::kGroup && scheme.group < 1) {
    return MakeError(kBadGroup, absl::StrCat("group ", scheme.group), "group",
                     "Use 1 or more, or -1 for one group per row.");
  }
  if (scheme.granularity == Granularity::kGroup && scheme.grid == Grid::kAwq &&
      cols % scheme.group != 0) {
    return MakeError(
        kBadGroup,
        absl::StrCat("group ", scheme.group, " does not divide rows of ", cols),
        "group", "The AWQ grid needs groups of equal size.");
  }
  if (scheme.grid == Grid::kAbsmax && !scheme.symmetric) {
    return MakeError(kBadValue, "the absmax grid is symmetric", "sym",
                     "Use grid=gptq or grid=awq with sym=0.");
  }
  return absl::OkStatus();
}

RtnGrid GridOf(const Scheme& scheme) {
  switch (scheme.grid) {
    case Grid::kAbsmax:
      return RtnGrid::kAbsmax;
    case Grid::kGptq:
      return scheme.symmetric ? RtnGrid::kGptqSymmetric
                              : RtnGrid::kGptqAsymmetric;
    case Grid::kAwq:
      return scheme.symmetric ? RtnGrid::kAwqSymmetric
                              : RtnGrid::kAwqAsymmetric;
  }
  return RtnGrid::kAbsmax;
}

RtnShape ShapeOf(const Scheme& scheme, int64_t rows, int64_t cols) {
  switch (scheme.granularity) {
    case Granularity::kTensor:
      return {.rows = 1, .cols = rows * cols, .group_size = rows * cols};
    case Granularity::kChannel:
      return {.rows = rows, .cols = cols, .group_size = cols};
    case Granularity::kGroup:
      return {.rows = rows, .cols = cols, .group_size = scheme.group};
  }
  return {};
}

absl::Status Rtn(const Scheme& scheme, std::span<const float> weights,
                 int64_t rows, int64_t cols, std::span<float> out) {
  QSWEEP_RETURN_IF_ERROR(CheckRtn(scheme, cols));
  if (weights.empty()) {
    return absl::OkStatus();
  }
  const RtnOptions options{
      .bits = scheme.bits,
      .grid = GridOf(scheme),
      .half_arithmetic = scheme.arithmetic == Arithmetic::kFp16,
      .half_scale = scheme.scale == ScaleStorage::kFp16};
  RtnCpu(weights.data(), ShapeOf(scheme, rows, cols), options, out.data(),
         /*scales=*/nullptr, /*codes=*/nullptr);
  return absl::OkStatus();
}

absl::Status Nf4(const Scheme& scheme, std::span<const float> weights,
                 std::span<float> out) {
  if (scheme.bits != 4) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat(scheme.bits, " bits of nf4"), "bits",
                     "It has 4.");
  }
  if (scheme.group < 1) {
    return MakeError(kBadGroup, absl::StrCat("group ", scheme.group), "group",
                     "Use 64.");
  }
  Nf4Cpu(weights.data(), static_cast<int64_t>(weights.size()),
         {.group_size = scheme.group, .double_quant = scheme.double_quant},
         out.data(), /*absmax=*/nullptr, /*codes=*/nullptr);
  return absl::OkStatus();
}

absl::Status Hqq(const Scheme& scheme, std::span<const float> weights,
                 std::span<float> out) {
  QSWEEP_RETURN_IF_ERROR(CheckBits(scheme));
  const auto count = static_cast<int64_t>(weights.size());
  if (scheme.group < 1 || count % scheme.group != 0) {
    return MakeError(kBadGroup,
                     absl::StrCat("group ", scheme.group,
                                  " does not divide a tensor of ", count),
                     "group", "hqq needs groups of equal size.");
  }
  HqqCpu(weights.data(), count,
         {.bits = scheme.bits,
          .group_size = scheme.group,
          .axis = scheme.axis,
          .round_zero = scheme.round_zero},
         out.data(), /*inverse=*/nullptr, /*zeros=*/nullptr, /*codes=*/nullptr);
  return absl::OkStatus();
}

}  // namespace

absl::Status FakeQuantize(const Scheme& scheme, std::span<const float> weights,
                          int64_t rows, int64_t cols, std::span<float> out) {
  QSWEEP_CHECK(rows >= 0 && cols >= 0);
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) == rows * cols);
  QSWEEP_CHECK(out.size() == weights.size());
  switch (scheme.method) {
    case Method::kRtn:
      return Rtn(scheme, weights, rows, cols, out);
    case Method::kNf4:
      return Nf4(scheme, weights, out);
    case Method::kHqq:
      return Hqq(scheme, weights, out);
    case Method::kGptq:
    case Method::kAwq:
      break;
  }
  return MakeError(kUnknownMethod, "this build has no gptq and no awq",
                   "method", "Use rtn, nf4 or hqq.");
}

}  // namespace qsweep::kernels
