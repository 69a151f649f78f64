#ifndef QSWEEP_COORDINATOR_ANALYSIS_EARLIER_COLUMNS_H_
#define QSWEEP_COORDINATOR_ANALYSIS_EARLIER_COLUMNS_H_

#include <optional>
#include <span>

#include "coordinator/analysis/panel.h"

namespace qsweep::analysis {

// The columns of the earlier work, as it defined them. They never carry a
// verdict: docs/metrics.md, "Columns of the earlier work".

// (ppl_q - ppl_fp) / ppl_fp x 100, from Delta in nats per token; infinite where
// a double cannot hold it.
double DegradationPercent(double delta_nll);

// Degradation over that of the reference, both from Delta. Finite whenever the
// quotient is, however large the two are. A reference that did not degrade:
// kOne takes 1 percent in its place, kInf gives nothing, kZero gives 0.
std::optional<double> Disparity(double delta_nll, double reference_delta_nll,
                                RefRule rule);

// Plain mean and maximum, infinite values dropped; nothing where none is left.
std::optional<double> FiniteMean(std::span<const double> values);
std::optional<double> FiniteMax(std::span<const double> values);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_EARLIER_COLUMNS_H_
