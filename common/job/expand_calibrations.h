#ifndef QSWEEP_COMMON_JOB_EXPAND_CALIBRATIONS_H_
#define QSWEEP_COMMON_JOB_EXPAND_CALIBRATIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/job/expand.h"
#include "common/job/model_description.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

// The texts of each seed, equal ones once. `samples` documents of each language
// are chosen as an evaluation's samples are, by the calibration's own seed. A
// note tells how many of them are scored, too. INVALID_ARGUMENT: QS1051
// more than kMostCalibrationTextsPerJob, QS2101, QS2103 with the field
// calibration.languages; QS2107 no texts.
absl::StatusOr<std::vector<ExpandedCalibration>> ExpandCalibrations(
    const v1::CalibrationRequest& request, const v1::Corpus& corpus,
    const std::vector<ExpandedEvaluation>& evaluations,
    std::vector<std::string>& notes);

// Notes what calib=exact costs, where a configuration has it: the layers that
// each worker calibrates, and the size of their codes.
void NoteExactCalibration(const ModelDescription& model,
                          const ExpandedModel& expanded,
                          std::vector<std::string>& notes);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_EXPAND_CALIBRATIONS_H_
