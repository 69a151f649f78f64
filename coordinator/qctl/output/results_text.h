#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_TEXT_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/qctl/output/output.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// Results as people read them in a terminal. Pure; every text ends in a
// newline; one section per panel. What the numbers mean: docs/metrics.md.
struct ResultsStyle {
  bool color = false;  // 256 colours are welcome
  int top = 0;         // configurations shown; 0: all
};

// Every configuration, best first: worst loss, anchored gap, KL, the earlier
// work's disparity, overhead, flags.
std::string RenderConfigurations(const v1::GetResultsResponse& results,
                                 const ResultsStyle& style);

// Single layers by rank, in the groups that can be told apart; the gaps at
// `none`; what is excluded. `--by layer`.
std::string RenderLayers(const v1::GetResultsResponse& results,
                         const ResultsStyle& style);

// The languages: how well the model knows each, the gap at `none` with both
// units, what would resolve it. `--by language`.
std::string RenderLanguages(const v1::GetResultsResponse& results);

// Layer x language. Colours, or shades . ░ ▒ ▓ █ with a sign; "?": the interval
// includes 0; a legend below.
std::string RenderHeatmap(const v1::GetResultsResponse& results,
                          const ResultsStyle& style);

// A row per configuration, a column per language, of one metric ("recovery",
// "relative_loss", "ppl", ...), for every output format. INVALID_ARGUMENT
// QS1004: no such metric; the hint lists them.
absl::StatusOr<Table> PivotTable(const v1::GetResultsResponse& results,
                                 absl::string_view metric);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_TEXT_H_
