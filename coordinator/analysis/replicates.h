#ifndef QSWEEP_COORDINATOR_ANALYSIS_REPLICATES_H_
#define QSWEEP_COORDINATOR_ANALYSIS_REPLICATES_H_

#include "coordinator/analysis/panel.h"

namespace qsweep::analysis {

// Replicates of a configuration are draws of its rounding noise: they differ in
// where groups begin, in nothing else. Documents are what is resampled, so the
// draws are averaged within a document first; how the draws differ stands
// beside. Pure. docs/metrics.md, "Replicates".

// Whether some configuration of the panel has several.
bool HasReplicates(const PanelInput& panel);

// The same panel with one row in place of the rows of all replicates of a
// (configuration, language, unit): their means. A row is there once all of them
// are; one that is not kOk stands for all.
PanelInput AverageReplicates(const PanelInput& panel);

// Adds the spreads to what AnalyzePanel said of the averaged panel: of a number
// that has a value there, over replicates that have one each.
void AddSpreads(const PanelInput& panel, const PanelInput& averaged,
                PanelResult& result);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_REPLICATES_H_
