#ifndef QSWEEP_COORDINATOR_ANALYSIS_ANALYZE_H_
#define QSWEEP_COORDINATOR_ANALYSIS_ANALYZE_H_

#include <optional>

#include "coordinator/analysis/panel.h"
#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

// START HERE. Everything that can be said about one panel: losses, gaps between
// languages, recovery by layer, ranks, flags, the earlier work's columns, each
// with its interval or the reason why it has none. Pure; deterministic in its
// arguments, whatever the order of rows. docs/metrics.md has the formulas.
//   const PanelResult result = AnalyzePanel(panel, {.seed = job.seed});
// Rows may be missing: what can be said without them is said, and counted.
// Replicates of a configuration are averaged first, see replicates.h.
PanelResult AnalyzePanel(const PanelInput& panel, const Options& options);

// The same on several threads, to the last bit. Nothing: work.stop() said so.
std::optional<PanelResult> AnalyzePanel(const PanelInput& panel,
                                        const Options& options,
                                        const Work& work);

// Below this many effective units nothing gets a verdict.
inline constexpr double kExploratoryUnits = 12;

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_ANALYZE_H_
