#include "coordinator/analysis/names.h"

namespace qsweep::analysis {

absl::string_view StatusName(EstimateStatus status) {
  switch (status) {
    case EstimateStatus::kOk:
      return "";
    case EstimateStatus::kFewUnits:
      return "few_units";
    case EstimateStatus::kPending:
      return "pending";
    case EstimateStatus::kNoRows:
      return "no_rows";
    case EstimateStatus::kNonfinite:
      return "nonfinite";
    case EstimateStatus::kUnlearned:
      return "unlearned";
    case EstimateStatus::kReferenceUnlearned:
      return "reference_unlearned";
    case EstimateStatus::kReferenceMissing:
      return "reference_missing";
    case EstimateStatus::kUndefined:
      return "undefined";
    case EstimateStatus::kBelowNoise:
      return "below_noise";
    case EstimateStatus::kReference:
      return "reference";
    case EstimateStatus::kAnchor:
      return "anchor";
    case EstimateStatus::kBaseline:
      return "baseline";
  }
  return "";
}

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kNone:
      return "";
    case Verdict::kWorse:
      return "worse";
    case Verdict::kBetter:
      return "better";
    case Verdict::kNotResolved:
      return "not_resolved";
    case Verdict::kUnitConflict:
      return "unit_conflict";
    case Verdict::kExploratory:
      return "exploratory";
  }
  return "";
}

absl::string_view StandingName(Standing standing) {
  switch (standing) {
    case Standing::kNone:
      return "";
    case Standing::kAbove:
      return "above";
    case Standing::kBelow:
      return "below";
    case Standing::kNotTold:
      return "not_told";
  }
  return "";
}

}  // namespace qsweep::analysis
