#ifndef QSWEEP_COMMON_JOB_REPLICATE_H_
#define QSWEEP_COMMON_JOB_REPLICATE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/quantizer.h"

namespace qsweep {

// A quantizer rounds a model in one way, and its loss is that of one draw of
// rounding noise. Replicate r draws again by moving the group boundaries:
// rtn's groups along a row, and those of nf4 and hqq along the flattened
// tensor, begin with one of s_r weights, all others have `group`, and the last
// holds the rest. s_r = floor(group * i_r), where i_r mirrors the binary digits
// of r at the point: 1/2, 1/4, 3/4, 1/8, ... for r = 1, 2, 3, 4. s_0 is a whole
// group. It follows from r and the group alone, so a digest means the same on
// every machine, and replicates keep their meaning when more are asked for.

// How many replicates have boundaries of their own: the largest power of two
// that is at most `group`. 1 where there are no groups to shift.
int NumReplicates(const Scheme& scheme);

// The weights that the first group lacks: group - s_r, 0 for r = 0. Of a scheme
// that CheckReplicate accepts.
int GroupOffset(const Scheme& scheme);

// INVALID_ARGUMENT QS1004, field "replicate": out of [0, NumReplicates), or
// another than 0 where the method has no boundaries to shift (gran=tensor and
// channel, axis=0 of hqq, gptq, awq).
absl::Status CheckReplicate(const Scheme& scheme);

// The same quantizer, drawn again. Errors of CheckReplicate.
absl::StatusOr<Quantizer> ReplicateOf(const Quantizer& quantizer,
                                      int replicate);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_REPLICATE_H_
