#ifndef QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_JSON_H_
#define QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/job/model_description.h"

namespace qsweep {

// What `qengine describe -o json` prints and qctl reads:
//   {"schema": "qctl/v1", "kind": "ModelDescription", "items": [{"name": ...,
//    "digest": "<hex>", ..., "tensors": [{"name": ..., "layer": 0, ...}]}]}
// Fields: docs/reference/file-formats.md. Ends with a newline.
std::string FormatModelDescriptionJson(const ModelDescription& model);

// The inverse, validated. Fields it does not know are ignored: within v1
// engines only add. INVALID_ARGUMENT: QS1002 not JSON, or of another schema or
// kind; QS1004 a field missing or wrong.
absl::StatusOr<ModelDescription> ParseModelDescriptionJson(
    absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_JSON_H_
