#ifndef QSWEEP_WORKER_MODEL_CHECKPOINT_PARTS_H_
#define QSWEEP_WORKER_MODEL_CHECKPOINT_PARTS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/job/model_description.h"
#include "worker/model/checkpoint.h"
#include "worker/model/config.h"
#include "worker/model/gptq_config.h"
#include "worker/model/gptq_packing.h"
#include "worker/model/mapped_file.h"
#include "worker/model/tensor_type.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {

// How a checkpoint is put together: a function for each kind of file fills the
// parts, MatchTensors finds what the family needs. For the .cc files of this
// folder only.

using FilePtr = std::shared_ptr<const MappedFile>;

// A tensor as a file has it, with the file it is in.
struct Located {
  StoredTensor tensor;
  std::string file;
};
using TensorMap = std::map<std::string, Located>;  // by the file's name for it

// A tensor of the model. Its values are in `packed`, or else in `source`.
struct ModelTensor {
  TensorDescription description;
  Located source;  // of a packed one: its codes
  std::optional<GptqMatrix> packed;
  int interleaved_heads = 0;  // 0: rows are in Hugging Face order
};

// Everything Open found out, before it is frozen in a checkpoint.
struct Parts {
  std::string name;
  ModelConfig config;
  std::optional<GptqConfig> packing;
  std::unique_ptr<Tokenizer> tokenizer;
  // What says how to read the weights; none: the weights' own file does.
  std::vector<FilePtr> config_files;
  std::vector<FilePtr> weights;  // in order of name
  TensorMap found;               // all tensors of `weights`
  std::vector<ModelTensor> tensors;
  std::function<absl::StatusOr<std::vector<SideFile>>()> side_files;
};

// Errors: those of Checkpoint::Open.
absl::StatusOr<Parts> OpenHuggingFaceParts(const std::string& directory);
absl::StatusOr<Parts> OpenGgufParts(const std::string& file);

// Finds each tensor the family needs among those that were found; unpacks
// nothing. gguf: the files' names are GGUF names.
absl::Status MatchTensors(bool gguf, Parts& parts);

// That the model embeds each token of the tokenizer, which is in `path`.
absl::Status CheckVocabulary(const Parts& parts, const std::string& path);

// NOT_FOUND QS3001, with the hint that says what may be given.
absl::Status NoModel(const std::string& path, absl::string_view what);

absl::string_view TextOf(const MappedFile& file);
bool Exists(const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CHECKPOINT_PARTS_H_
