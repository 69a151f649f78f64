#ifndef QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_PROTO_H_
#define QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_PROTO_H_

#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

v1::ModelDescription ToProto(const ModelDescription& model);

// Validated. INVALID_ARGUMENT QS1004, as ValidateModelDescription.
absl::StatusOr<ModelDescription> FromProto(const v1::ModelDescription& proto);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_PROTO_H_
