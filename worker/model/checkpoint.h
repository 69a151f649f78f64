#ifndef QSWEEP_WORKER_MODEL_CHECKPOINT_H_
#define QSWEEP_WORKER_MODEL_CHECKPOINT_H_

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/model/config.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {

// A model on disk: a Hugging Face directory (config.json, one or several
// safetensors files, tokenizer.json), a .gguf file, or a directory with exactly
// one. Files are mapped, not read. Immutable, thread-safe.
class Checkpoint {
 public:
  // Checks every header before anything is used. NOT_FOUND QS3001; DATA_LOSS
  // QS3002 truncated, QS3003 corrupt header, QS3006 no rope base, QS3008
  // missing tensor, QS3011, QS3012; UNIMPLEMENTED QS3004, QS3005, QS3009. The
  // text names file and tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::string& path);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;  // worker/model/config.h
  virtual const Tokenizer& tokenizer() const = 0;

  // Reads the tensors' headers and hashes the weight files (digest cached
  // beside `cache_dir` by path, size, mtime, inode; "": no cache). Takes as
  // long as reading the files once, the first time.
  virtual absl::StatusOr<ModelDescription> Describe(
      const std::string& cache_dir) const = 0;

  // Dequantizes or widens one tensor to fp32, row-major, in Hugging Face layout
  // (Q and K rows of llama-architecture GGUF files un-permuted). name: of a
  // TensorDescription. out: exactly num_elements. DATA_LOSS QS3007 when a value
  // is not finite; NOT_FOUND QS3008.
  virtual absl::Status ReadTensor(const std::string& name,
                                  std::span<float> out) const = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CHECKPOINT_H_
