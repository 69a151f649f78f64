#ifndef QSWEEP_TESTS_COORDINATOR_QCTL_OUTPUT_SAMPLE_RESULTS_H_
#define QSWEEP_TESTS_COORDINATOR_QCTL_OUTPUT_SAMPLE_RESULTS_H_

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// A finished sweep of a four-layer model over English, Arabic, Russian and
// Swahili, with numbers chosen so that every kind of answer occurs: L0 stands
// apart, L1 and L2 do not, L3 is below; Arabic's units disagree, Russian is
// worse, Swahili is not learned.
v1::GetResultsResponse SampleResults();

}  // namespace qsweep::qctl

#endif  // QSWEEP_TESTS_COORDINATOR_QCTL_OUTPUT_SAMPLE_RESULTS_H_
