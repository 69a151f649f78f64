#include "common/job/replicate.h"

#include <bit>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/quantizer_names.h"

namespace qsweep {
namespace {

bool HasBoundaries(const Scheme& scheme) {
  switch (scheme.method) {
    case Method::kRtn:
      return scheme.granularity == Granularity::kGroup;
    case Method::kNf4:
      return true;
    case Method::kHqq:
      return scheme.axis == 1;
    case Method::kGptq:
    case Method::kAwq:
    case Method::kCheckpoint:
      break;
  }
  return false;
}

absl::Status NoBoundariesError(const Scheme& scheme) {
  const std::string what =
      absl::StrCat("replicate=", scheme.replicate,
                   " moves the boundaries of groups along a row, and ");
  switch (scheme.method) {
    case Method::kGptq:
    case Method::kAwq:
      return MakeError(
          kBadValue,
          absl::StrCat(what, "those of ", NameOf(kMethodNames, scheme.method),
                       " cannot move"),
          "replicate",
          "Leave it out: calibration.seeds draws other texts instead.");
    case Method::kCheckpoint:
      return MakeError(kBadValue,
                       absl::StrCat(what, "a ready checkpoint is as it is"),
                       "replicate", "Leave it out.");
    case Method::kHqq:
      return MakeError(kBadValue,
                       absl::StrCat(what, "axis=0 has its groups across"),
                       "replicate", "Use axis=1.");
    case Method::kRtn:
    case Method::kNf4:
      break;
  }
  return MakeError(
      kBadValue,
      absl::StrCat(what, "gran=", NameOf(kGranularityNames, scheme.granularity),
                   " has none"),
      "replicate", "Leave it out, or use groups: group=128.");
}

}  // namespace

int NumReplicates(const Scheme& scheme) {
  return HasBoundaries(scheme) && scheme.group > 0
             ? static_cast<int>(
                   std::bit_floor(static_cast<unsigned>(scheme.group)))
             : 1;
}

int GroupOffset(const Scheme& scheme) {
  if (scheme.replicate == 0) {
    return 0;
  }
  // i_r as a fraction of `count`: the last digit of r counts a half of it.
  const int64_t count = NumReplicates(scheme);
  int64_t mirrored = 0;
  int64_t place = count / 2;
  for (int rest = scheme.replicate; rest > 0; rest /= 2, place /= 2) {
    mirrored += rest % 2 * place;
  }
  return scheme.group - static_cast<int>(scheme.group * mirrored / count);
}

absl::Status CheckReplicate(const Scheme& scheme) {
  if (scheme.replicate == 0) {
    return absl::OkStatus();
  }
  if (scheme.replicate > 0 && !HasBoundaries(scheme)) {
    return NoBoundariesError(scheme);
  }
  const int count = NumReplicates(scheme);
  if (scheme.replicate < 0 || scheme.replicate >= count) {
    return MakeError(
        kBadValue,
        absl::StrCat("replicate=", scheme.replicate, " is not in 0 to ",
                     count - 1, ": groups of ", scheme.group, " have ", count,
                     count == 1 ? " place" : " places", " to begin at"),
        "replicate", "Use fewer replicates, or larger groups.");
  }
  return absl::OkStatus();
}

absl::StatusOr<Quantizer> ReplicateOf(const Quantizer& quantizer,
                                      int replicate) {
  Quantizer drawn = quantizer;
  drawn.scheme.replicate = replicate;
  QSWEEP_RETURN_IF_ERROR(CheckReplicate(drawn.scheme));
  return drawn;
}

}  // namespace qsweep
