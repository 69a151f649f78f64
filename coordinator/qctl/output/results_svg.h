#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_SVG_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_SVG_H_

#include <string>
#include <vector>

#include "coordinator/qctl/output/results_view.h"

namespace qsweep::qctl {

// Pictures of one panel, complete files. provenance: lines kept inside (the
// command, the data digest, versions). Empty for nothing to draw.

// Configurations x languages, colours centred on 0, cells whose interval
// includes 0 hatched, every value written.
std::string HeatmapSvg(const Heatmap& map,
                       const std::vector<std::string>& provenance);

// Layers by rank: worst recovery minus the average layer's, simultaneous
// intervals, hatched where it includes 0; under a bar the standard deviation
// between replicates, where there are some.
std::string LayerBarsSvg(const std::vector<LayerBar>& bars,
                         const std::vector<std::string>& provenance);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_SVG_H_
