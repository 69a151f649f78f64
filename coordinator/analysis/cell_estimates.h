#ifndef QSWEEP_COORDINATOR_ANALYSIS_CELL_ESTIMATES_H_
#define QSWEEP_COORDINATOR_ANALYSIS_CELL_ESTIMATES_H_

#include <span>
#include <vector>

#include "coordinator/analysis/panel.h"
#include "coordinator/analysis/resamples.h"
#include "coordinator/analysis/unit_table.h"
#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

// What the estimates of a cell need to know beyond the cell. Borrows.
struct CellContext {
  const PanelInput& panel;
  const UnitTable& table;
  const Resamples& resamples;
  double confidence;
  bool every_token_scored;  // P, F and B exist
  int none;                 // index of the unprotected configuration; -1: none
  std::vector<EstimateStatus> languages;  // kOk, kNoRows, kNonfinite, ...
  // kOk: the loss at `none` is above its floor, so recovery exists; else
  // kUndefined or kBelowNoise. [languages]
  std::vector<EstimateStatus> recovery;
  // dNLL of the average single layer, nats. [languages, units]; a language
  // where it is not defined: empty.
  std::vector<std::vector<double>> average;
};

// Of a cell as such, whatever is estimated; kBaseline for the baseline.
EstimateStatus CellStatus(const CellContext& context, int configuration,
                          int language);

// dNLL of a cell whose status is kOk, nats. [units]
std::vector<double> DeltaNll(const UnitTable& table, int configuration,
                             int language);

// Fills the estimates of these configurations' cells, all resampled together,
// on this thread. Stopped: they are not worth reading.
void EstimateCells(const CellContext& context,
                   std::span<const int> configurations, const Work& work,
                   PanelResult& result);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_CELL_ESTIMATES_H_
