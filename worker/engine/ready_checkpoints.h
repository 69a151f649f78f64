#ifndef QSWEEP_WORKER_ENGINE_READY_CHECKPOINTS_H_
#define QSWEEP_WORKER_ENGINE_READY_CHECKPOINTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/stopped.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/model/checkpoint.h"

namespace qsweep {

// The ready checkpoints that configurations take their tensors from, beside the
// model that they are measured against. They stay mapped between tasks, and are
// read tensor by tensor. Open from one thread, Of from any while it does not
// run.
class ReadyCheckpoints {
 public:
  // cache_dir: as of Checkpoint::Describe.
  explicit ReadyCheckpoints(std::string cache_dir)
      : cache_dir_(std::move(cache_dir)) {}

  // Has the checkpoints of these quantizers open, and no others; those of other
  // methods are left out. What was open and has not changed is not looked at
  // again. base, model: what they replace the weights of. Errors of
  // Checkpoint::Open and Describe, which asks `stopped`, and of WithCheckpoint
  // (common/job/checkpoint_quantizer.h) and CheckIsOf. Then none is open.
  absl::Status Open(std::span<const Quantizer> quantizers,
                    const Checkpoint& base, const ModelDescription& model,
                    const Stopped& stopped);

  // That of a scheme whose quantizer was among Open's.
  const Checkpoint& Of(const Scheme& scheme) const;

 private:
  struct Ready {
    std::string path;
    std::string identity;  // tells when the files were replaced
    Digest model;          // that it was compared with
    std::unique_ptr<Checkpoint> checkpoint;
  };

  absl::StatusOr<Ready> OpenOne(const Quantizer& quantizer,
                                const Checkpoint& base,
                                const ModelDescription& model,
                                const Stopped& stopped) const;

  const std::string cache_dir_;
  std::map<uint64_t, Ready> ready_;  // by Scheme::checkpoint
};

// QS3013 where what no description tells is not as in the model: heads, the
// constants of norms and rotary embedding, which token an id is. Tokenizers may
// be written otherwise, in a GGUF file and a tokenizer.json.
absl::Status CheckIsOf(const std::string& path, const Checkpoint& checkpoint,
                       const Checkpoint& model);

// The text of a quantizer or "fp"; one of method checkpoint with what
// WithCheckpoint says of the files at its path. Errors of ParseQuantizer,
// Checkpoint::Open and Describe, which asks `stopped`, WithCheckpoint.
absl::StatusOr<std::string> CompleteQuantizer(const std::string& text,
                                              const ModelDescription& model,
                                              const std::string& cache_dir,
                                              const Stopped& stopped = {});

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_READY_CHECKPOINTS_H_
