#ifndef QSWEEP_WORKER_ENGINE_HEAD_H_
#define QSWEEP_WORKER_ENGINE_HEAD_H_

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/products.h"
#include "worker/engine/thread_pool.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/config.h"

namespace qsweep {

// Final hidden vectors, after the final norm, and the head they go through.
struct HeadInput {
  const float* states = nullptr;  // [rows, hidden], rows padded to kTileRows
  const Matrix* head = nullptr;   // [vocabulary, hidden]
};

// Scores rows of final states against the tokens that follow. The logits exist
// a tile at a time: the baseline's once, each configuration's beside it; all
// statistics are taken while the tile is in the cache. Owns a buffer per
// thread. Single-thread, but for its own parallel work on the pool.
class HeadScorer {
 public:
  HeadScorer(int64_t state_stride, ThreadPool& pool);

  // Bytes of its buffers when so many configurations, of so many heads, are
  // scored at a time.
  static int64_t Bytes(const ModelConfig& config, int threads,
                       int64_t configurations, int64_t heads);

  // The products that a head is made of.
  static std::vector<ProductShape> Products(const ModelConfig& config);

  // Called after each tile of kTileRows rows, on the thread that computed it:
  // the tile's scores are final. thread 0 is the one that called Score.
  using TileDone = std::function<void(int64_t tile, int thread)>;

  // gold: [rows] ids to predict. scores: row r of the baseline, against itself,
  // at scores[r], of configuration c at scores[(c + 1) * rows + r]. CANCELLED.
  absl::Status Score(const HeadInput& baseline,
                     std::span<const HeadInput> configurations,
                     std::span<const int32_t> gold,
                     std::span<kernels::TokenScore> scores,
                     const std::stop_token& stop, const TileDone& tile_done);

 private:
  struct Buffers {
    kernels::FloatBuffer baseline_logits;         // [tile, columns]
    kernels::FloatBuffer exps;                    // [tile, columns]
    kernels::FloatBuffer logits;                  // [tile, columns]
    std::vector<double> rescale;                  // [tile]
    std::vector<kernels::HeadRow> baseline_rows;  // [tile]
    std::vector<kernels::HeadRow> rows;           // [configurations, tile]
    std::vector<Panel> panels;                    // per head: some columns
  };

  // A call's inputs, the baseline first, and their heads, each once.
  struct Inputs {
    void Add(const HeadInput& input);

    struct Input {
      const float* states = nullptr;
      size_t head = 0;
    };
    std::vector<Input> inputs;
    std::vector<const Matrix*> heads;
  };
  absl::Status ScoreTile(const Inputs& inputs, std::span<const int32_t> gold,
                         int64_t first, Buffers& buffers,
                         const std::stop_token& stop);

  const int64_t state_stride_;
  ThreadPool& pool_;
  const kernels::RowKernels& kernels_;
  std::vector<Buffers> buffers_;  // per thread
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_HEAD_H_
