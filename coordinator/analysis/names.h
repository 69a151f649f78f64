#ifndef QSWEEP_COORDINATOR_ANALYSIS_NAMES_H_
#define QSWEEP_COORDINATOR_ANALYSIS_NAMES_H_

#include "absl/strings/string_view.h"

#include "coordinator/analysis/panel.h"

namespace qsweep::analysis {

// "unlearned", "worse", ...: the words of machine formats. kOk and kNone: "".
absl::string_view StatusName(EstimateStatus status);
absl::string_view VerdictName(Verdict verdict);
absl::string_view StandingName(Standing standing);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_NAMES_H_
