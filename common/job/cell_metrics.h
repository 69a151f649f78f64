#ifndef QSWEEP_COMMON_JOB_CELL_METRICS_H_
#define QSWEEP_COMMON_JOB_CELL_METRICS_H_

#include <vector>

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// One number of a cell of the results, by the name it has in the long form:
// `qctl results -o csv`, results_v1 and docs/metrics.md.
struct CellMetric {
  const char* name;
  bool higher_is_better;
  v1::Estimate estimate;  // without bounds where none are computed
};

// The metrics of a cell that have a value, or a reason why there is none; in
// the order of the long form.
std::vector<CellMetric> MetricsOf(const v1::CellResult& cell);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CELL_METRICS_H_
