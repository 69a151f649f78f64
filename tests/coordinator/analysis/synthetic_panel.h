#ifndef QSWEEP_TESTS_COORDINATOR_ANALYSIS_SYNTHETIC_PANEL_H_
#define QSWEEP_TESTS_COORDINATOR_ANALYSIS_SYNTHETIC_PANEL_H_

#include <string>
#include <vector>

#include "common/base/random.h"
#include "coordinator/analysis/panel.h"

namespace qsweep::analysis {

// Standard normal values from SplitMix64, by Box and Muller.
double Normal(Random& random);

// What the rows of a synthetic panel are drawn from.
struct SyntheticOptions {
  int units = 30;
  int layers = 6;
  std::vector<std::string> languages = {"eng", "deu", "arb"};
  uint64_t seed = 1;
  // Mean loss per token at `none`, nats, by language; the rest 0.3.
  std::vector<double> loss = {};
  // Share of the loss that protecting a layer recovers; the rest 0.03.
  std::vector<double> recovery = {};
  double noise = 0.1;  // of the loss of a unit, relative
  bool varied_lengths = true;
};

// Baseline, none, then each layer alone; every row kOk; reference language 0.
PanelInput SyntheticPanel(const SyntheticOptions& options);

// The same panel drawn `replicates` times: every loss but the baseline's is
// another in each of them, about the one that it was.
PanelInput Replicated(const PanelInput& panel, int replicates);

// The row of a cell and unit, to change it.
Row& RowAt(PanelInput& panel, int configuration, int language,
           const std::string& unit);

}  // namespace qsweep::analysis

#endif  // QSWEEP_TESTS_COORDINATOR_ANALYSIS_SYNTHETIC_PANEL_H_
