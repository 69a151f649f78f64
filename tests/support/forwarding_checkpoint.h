#ifndef QSWEEP_TESTS_SUPPORT_FORWARDING_CHECKPOINT_H_
#define QSWEEP_TESTS_SUPPORT_FORWARDING_CHECKPOINT_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/model/checkpoint.h"

namespace qsweep::testing {

// Another checkpoint, which outlives it; tests override what they change.
class ForwardingCheckpoint : public Checkpoint {
 public:
  explicit ForwardingCheckpoint(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint) {}

  const ModelConfig& config() const override { return checkpoint_.config(); }
  const Tokenizer& tokenizer() const override {
    return checkpoint_.tokenizer();
  }
  absl::StatusOr<ModelDescription> Describe(
      const std::string& cache_dir, const Stopped& stopped) const override {
    return checkpoint_.Describe(cache_dir, stopped);
  }
  absl::Status ReadTensor(const std::string& name, std::span<float> out,
                          const Stopped& stopped) const override {
    return checkpoint_.ReadTensor(name, out, stopped);
  }
  std::optional<StoredTensor> FindPlain(
      const std::string& name) const override {
    return checkpoint_.FindPlain(name);
  }
  absl::StatusOr<std::vector<SideFile>> SideFiles() const override {
    return checkpoint_.SideFiles();
  }

 private:
  const Checkpoint& checkpoint_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_FORWARDING_CHECKPOINT_H_
