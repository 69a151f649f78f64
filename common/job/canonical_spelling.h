#ifndef QSWEEP_COMMON_JOB_CANONICAL_SPELLING_H_
#define QSWEEP_COMMON_JOB_CANONICAL_SPELLING_H_

#include <string>

#include "common/job/configuration.h"
#include "common/job/model_description.h"

namespace qsweep {

// How a configuration is written where no job's own words count.
struct Spelling {
  std::string quantizer;  // FormatQuantizer's; "fp" for the baseline
  std::string layer_set;  // resolved; "all" for the baseline

  bool operator==(const Spelling&) const = default;
};

// Follows from the schemes alone, so equal digests have equal spellings: the
// quantizer is the scheme that most parameters have, under the scope that
// leaves least of itself out, and the layer set names what differs, by whole
// layers first. Parses back to the same digest.
Spelling CanonicalSpelling(const ModelDescription& model,
                           const Configuration& configuration);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CANONICAL_SPELLING_H_
