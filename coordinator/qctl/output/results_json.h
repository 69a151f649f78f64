#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_JSON_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_JSON_H_

#include "coordinator/qctl/output/value.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// The document of `qctl results JOB -o json`:
//   {"schema":"qctl/v1","kind":"Results","job":{...},...,"items":[panels]}
// Every field of the reply under its proto name. Ids, digests and the seed are
// strings. An estimate is {"value","low","high","stderr","status"}; a number
// that does not exist or that JSON cannot hold is null and its status, "ok"
// otherwise, says why.
Value ResultsDocument(const v1::GetResultsResponse& results);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_JSON_H_
