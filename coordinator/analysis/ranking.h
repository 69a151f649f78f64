#ifndef QSWEEP_COORDINATOR_ANALYSIS_RANKING_H_
#define QSWEEP_COORDINATOR_ANALYSIS_RANKING_H_

#include <optional>
#include <vector>

#include "coordinator/analysis/panel.h"
#include "coordinator/analysis/resamples.h"
#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

// dNLL of the single layers and of `none`, in the languages that count.
struct RankingInput {
  std::vector<std::vector<std::vector<double>>> layers;  // [layer, language,
                                                         // unit], nats
  std::vector<std::vector<double>> none;                 // [language, unit]
  // A difference of recoveries below this may be arithmetic.
  double noise = 0;
};

struct RankedLayer {
  double worst_recovery = 0;
  int worst_language = 0;     // index into RankingInput::none
  Estimate average_contrast;  // simultaneous over the layers
  Standing standing = Standing::kNone;
  int rank = 0;   // 1..
  int group = 0;  // 1.., in the order of the ranks
};

struct Ranking {
  std::vector<RankedLayer> layers;  // parallel to the input
  // The first ranks whose layers stand apart from every layer below them.
  int resolved_ranks = 0;
  // About how many more units would tell half of the layers that are not told
  // from the average; nothing where every layer is told.
  std::optional<uint32_t> units_more;
};

// Ranks layers by their recovery in their worst language, with simultaneous
// studentized intervals for "layer minus the average layer" and for every pair
// of layers. input: at least two layers, one language, kMinimumUnits
// (ratio_bootstrap.h) units; the sum of `none` is positive in every language.
// Not worth reading once work.stopped(). Formulas: docs/metrics.md, "Ranks".
Ranking RankLayers(const RankingInput& input, const Resamples& resamples,
                   double confidence, const Work& work = {});

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_RANKING_H_
