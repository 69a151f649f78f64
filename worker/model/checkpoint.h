#ifndef QSWEEP_WORKER_MODEL_CHECKPOINT_H_
#define QSWEEP_WORKER_MODEL_CHECKPOINT_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/stopped.h"
#include "common/job/model_description.h"
#include "worker/model/config.h"
#include "worker/model/tensor_type.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {

// A file of a Hugging Face directory.
struct SideFile {
  std::string name;
  std::string content;
};

// A model on disk: a Hugging Face directory (config.json, one or several
// safetensors files, tokenizer.json; weights may be packed by GPTQ), a .gguf
// file, or a directory with exactly one. Files are mapped, not read. Immutable,
// thread-safe.
class Checkpoint {
 public:
  // Of a tensor, read without a look at `stopped`: 16 MiB of fp32.
  static constexpr size_t kPieceValues = size_t{1} << 22;

  // Checks every header before anything is used. NOT_FOUND QS3001; DATA_LOSS
  // QS3002 truncated, QS3003 corrupt header, QS3006 no rope base, QS3008
  // missing tensor, QS3011, also for packed weights that the configuration
  // denies, QS3012; UNIMPLEMENTED QS3004, QS3005, QS3009. The text names file
  // and tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::string& path);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;  // worker/model/config.h
  virtual const Tokenizer& tokenizer() const = 0;

  // Reads the tensors' headers and hashes the weight files (digest cached
  // beside `cache_dir` by path, size, mtime, inode; "": no cache). Takes as
  // long as reading the files once, the first time. `stopped` is asked before
  // each MiB, and before each row that is looked at. CANCELLED.
  virtual absl::StatusOr<ModelDescription> Describe(
      const std::string& cache_dir, const Stopped& stopped = {}) const = 0;

  // Dequantizes, unpacks or widens one tensor to fp32, row-major, in Hugging
  // Face layout (Q and K rows of llama-architecture GGUF files un-permuted).
  // name: of a TensorDescription. out: exactly num_elements. DATA_LOSS QS3007
  // when a value is not finite; NOT_FOUND QS3008. `stopped` is asked before
  // each kPieceValues values, row of a GGUF file's Q and K, or 32 columns of a
  // packed matrix. CANCELLED; what is in `out` then is anything.
  virtual absl::Status ReadTensor(const std::string& name, std::span<float> out,
                                  const Stopped& stopped = {}) const = 0;

  // The bytes of a tensor in its file, when they are plain floats in the order
  // of ReadTensor; nothing: they are not. They live as long as the checkpoint.
  virtual std::optional<StoredTensor> FindPlain(
      const std::string& name) const = 0;

  // What a Hugging Face directory of the model holds besides weights: its
  // config.json and the files of the tokenizer; of a GGUF file, as its metadata
  // has them. Errors: NOT_FOUND QS3001.
  virtual absl::StatusOr<std::vector<SideFile>> SideFiles() const = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CHECKPOINT_H_
