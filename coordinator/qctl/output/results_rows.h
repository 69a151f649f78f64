#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_ROWS_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_ROWS_H_

#include "coordinator/qctl/output/output.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// Results as one long table (kind ResultList): a row per configuration,
// language and metric, with its interval, flags and overheads. What
// `qctl results -o csv|tsv|jsonl|md` writes. Metrics: docs/metrics.md.
Table ResultRows(const v1::GetResultsResponse& results);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_ROWS_H_
