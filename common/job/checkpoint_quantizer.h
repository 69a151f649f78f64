#ifndef QSWEEP_COMMON_JOB_CHECKPOINT_QUANTIZER_H_
#define QSWEEP_COMMON_JOB_CHECKPOINT_QUANTIZER_H_

#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "common/job/quantizer.h"

namespace qsweep {

// The quantizer of method checkpoint, completed by what the description of its
// checkpoint says: digest, and the mean of the bits that the linear layers of
// the blocks are stored in. checkpoint: of what lies at its path. model: whose
// weights it is to replace.
// FAILED_PRECONDITION: QS3013, the checkpoint is not of that model, with what
// differs first of architecture, shapes and tensors (an engine knows more:
// worker/engine/ready_checkpoints.h); QS3010, the
// quantizer has another digest already. Fields: the quantizer's path.
absl::StatusOr<Quantizer> WithCheckpoint(const Quantizer& quantizer,
                                         const ModelDescription& checkpoint,
                                         const ModelDescription& model);

// QS3013, of the checkpoint at that path: `what` of it is not as in the model.
absl::Status CheckpointDiffers(absl::string_view path, absl::string_view what);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CHECKPOINT_QUANTIZER_H_
