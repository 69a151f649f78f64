#ifndef QSWEEP_WORKER_ENGINE_CALIBRATION_STATES_H_
#define QSWEEP_WORKER_ENGINE_CALIBRATION_STATES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/block.h"
#include "worker/engine/rotary.h"
#include "worker/engine/thread_pool.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/config.h"

namespace qsweep {

// The hidden states of calibration texts, in numbered slots, and what takes
// them through blocks: units of whole documents, one a thread. Units and their
// order depend on the texts alone. Single-thread, but for its own work on the
// pool. Everything borrowed must outlive it.
class CalibrationStates {
 public:
  using Documents = std::vector<std::vector<int32_t>>;  // token ids, none empty
  // Called with a unit that went through, on its thread: its number, that of
  // its first position, what its linear layers read.
  using Visit = std::function<void(size_t unit, int64_t first_position,
                                   const BlockInputs& inputs)>;

  CalibrationStates(const ModelConfig& config, const Documents& documents,
                    int num_slots, ThreadPool& pool, std::stop_token stop);

  // What one of these takes.
  static int64_t Bytes(const ModelConfig& config, const Documents& documents,
                       int num_slots, int num_threads);
  static size_t NumUnits(const Documents& documents);

  // table: [vocabulary, hidden].
  void Embed(std::span<const float> table, int slot);

  int64_t num_positions() const { return num_positions_; }
  size_t num_units() const { return units_.size(); }
  size_t batch_units() const { return inputs_.size(); }

  // Takes the units first .. first + count - 1, at most batch_units(), from one
  // slot to another or the same; nothing: nowhere. inputs: they are kept until
  // the next call. visit: with inputs only. CANCELLED.
  absl::Status Run(const BlockWeights& weights, int from, std::optional<int> to,
                   size_t first, size_t count, bool inputs,
                   const Visit& visit = nullptr);
  // Of the last call's units, in their order.
  std::span<const BlockInputs> inputs(size_t count) const {
    return std::span(inputs_).first(count);
  }

 private:
  struct Unit {
    int64_t first = 0;               // position
    std::vector<int64_t> documents;  // rows of each
  };
  static std::vector<Unit> UnitsOf(const Documents& documents);
  static int64_t LongestOf(const Documents& documents);

  const ModelConfig& config_;
  const Documents& documents_;
  ThreadPool& pool_;
  const std::stop_token stop_;
  const int64_t stride_;
  const RotaryTable rotary_;
  const std::vector<Unit> units_;
  int64_t num_positions_ = 0;
  std::vector<kernels::FloatBuffer> slots_;    // [positions, hidden]
  std::vector<kernels::FloatBuffer> nowhere_;  // per thread
  std::vector<BlockRunner> runners_;           // per thread
  std::vector<BlockInputs> inputs_;            // per unit in flight
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CALIBRATION_STATES_H_
