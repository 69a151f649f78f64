#ifndef QSWEEP_COMMON_JOB_EXPAND_PATTERNS_H_
#define QSWEEP_COMMON_JOB_EXPAND_PATTERNS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "qsweep/v1/job.pb.h"

namespace qsweep {

// How many layer sets a pattern stands for when `layers` of a model's layers
// are tried. Saturates far above every limit.
int64_t CountLayerSets(const v1::LayerSetPattern& pattern, int64_t layers);

// Their texts, in order: of a literal itself; "L0", "L1", ... for {protect:
// each}; all but one layer for {quantize: each}. tried: ascending, of a model
// with num_layers.
std::vector<std::string> LayerSetTexts(const v1::LayerSetPattern& pattern,
                                       const std::vector<int>& tried,
                                       int num_layers);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_EXPAND_PATTERNS_H_
