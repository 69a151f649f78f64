#ifndef QSWEEP_COORDINATOR_QCTL_DESCRIBE_MODEL_H_
#define QSWEEP_COORDINATOR_QCTL_DESCRIBE_MODEL_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/job/model_description.h"

namespace qsweep::qctl {

// Asks `qengine describe`, which lies in binary_dir, what the model at path is:
// it reads headers and hashes every weight file. QS5001: no engine there; else
// the engine's own error (QS3xxx), with the path as field. of: the path of a
// model that it must be a ready checkpoint of, else QS3013; "": none.
absl::StatusOr<ModelDescription> DescribeModel(const std::string& binary_dir,
                                               const std::string& path,
                                               const std::string& of = "");

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_DESCRIBE_MODEL_H_
