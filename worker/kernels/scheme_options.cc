#include "worker/kernels/scheme_options.h"

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/replicate.h"

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

absl::Status CheckNf4(const Scheme& scheme) {
  if (scheme.bits != 4) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat(scheme.bits, " bits of nf4"), "bits",
                     "It has 4.");
  }
  if (scheme.group < 1) {
    return MakeError(kBadGroup, absl::StrCat("group ", scheme.group), "group",
                     "Use 64.");
  }
  return absl::OkStatus();
}

absl::Status CheckHqq(const Scheme& scheme, int64_t count) {
  QSWEEP_RETURN_IF_ERROR(CheckBits(scheme));
  if (scheme.group < 1 || count % scheme.group != 0) {
    return MakeError(kBadGroup,
                     absl::StrCat("group ", scheme.group,
                                  " does not divide a tensor of ", count),
                     "group", "hqq needs groups of equal size.");
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

}  // namespace

absl::Status CheckPlainScheme(const Scheme& scheme, int64_t rows,
                              int64_t cols) {
  QSWEEP_RETURN_IF_ERROR(CheckReplicate(scheme));
  switch (scheme.method) {
    case Method::kRtn:
      return CheckRtn(scheme, cols);
    case Method::kNf4:
      return CheckNf4(scheme);
    case Method::kHqq:
      return CheckHqq(scheme, rows * cols);
    case Method::kGptq:
    case Method::kAwq:
    case Method::kCheckpoint:
      break;
  }
  return MakeError(kUnknownMethod,
                   "gptq and awq need calibration, checkpoint its files",
                   "method", "Use rtn, nf4 or hqq.");
}

RtnShape RtnShapeOf(const Scheme& scheme, int64_t rows, int64_t cols) {
  switch (scheme.granularity) {
    case Granularity::kTensor:
      return {.rows = 1, .cols = rows * cols, .group_size = rows * cols};
    case Granularity::kChannel:
      return {.rows = rows, .cols = cols, .group_size = cols};
    case Granularity::kGroup:
      return {.rows = rows,
              .cols = cols,
              .group_size = scheme.group,
              .offset = GroupOffset(scheme)};
  }
  return {};
}

RtnOptions RtnOptionsOf(const Scheme& scheme) {
  return {.bits = scheme.bits,
          .grid = GridOf(scheme),
          .half_arithmetic = scheme.arithmetic == Arithmetic::kFp16,
          .half_scale = scheme.scale == ScaleStorage::kFp16};
}

Nf4Options Nf4OptionsOf(const Scheme& scheme) {
  return {.group_size = scheme.group,
          .double_quant = scheme.double_quant,
          .offset = GroupOffset(scheme)};
}

HqqOptions HqqOptionsOf(const Scheme& scheme) {
  return {.bits = scheme.bits,
          .group_size = scheme.group,
          .axis = scheme.axis,
          .round_zero = scheme.round_zero,
          .offset = GroupOffset(scheme)};
}

GptqOptions GptqOptionsOf(const Scheme& scheme) {
  return {.bits = scheme.bits,
          .group_size = scheme.granularity == Granularity::kGroup
                            ? int64_t{scheme.group}
                            : 0,
          .symmetric = scheme.symmetric,
          .static_groups = scheme.static_groups,
          .half_scale = scheme.scale == ScaleStorage::kFp16};
}

}  // namespace qsweep::kernels
