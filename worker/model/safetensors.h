#ifndef QSWEEP_WORKER_MODEL_SAFETENSORS_H_
#define QSWEEP_WORKER_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/model/tensor_type.h"

namespace qsweep {

// The tensors of a safetensors file, in order of name; they borrow bytes.
// Checks that the header is at most 100 MB of JSON, names are unique, sizes fit
// shapes, and the tensors cover the data without overlap or hole, as the format
// demands. file: for messages. DATA_LOSS QS3002 (shorter than the header says),
// QS3003; UNIMPLEMENTED QS3009 (dtype).
absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(
    std::span<const uint8_t> bytes, const std::string& file);

// weight_map of model.safetensors.index.json: tensor name -> file name, which
// is a plain name without a folder. DATA_LOSS QS3003.
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(
    absl::string_view json, const std::string& file);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_SAFETENSORS_H_
