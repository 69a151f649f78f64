#ifndef QSWEEP_WORKER_KERNELS_HEAD_STATS_H_
#define QSWEEP_WORKER_KERNELS_HEAD_STATS_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/head_row.h"

namespace qsweep::kernels {

// The head's statistics on a device, from one tile of the vocabulary after the
// other, so that no [tokens, vocabulary] buffer exists. ScoreOf (row_kernels.h)
// makes losses, KL and top-1 of the rows. A row's bits depend on its logits and
// the widths of the tiles alone: not on the place, the other rows, alignment,
// or the kind of GPU.

// Device memory: `columns` of the vocabulary from first_column on, for some
// rows of logits. Lives until the stream has passed.
struct HeadTile {
  const float* logits = nullptr;  // [rows, stride]
  int64_t stride = 0;             // in floats, at least columns
  int64_t rows = 0;
  int64_t columns = 0;
  int32_t first_column = 0;
};

// Adds a tile of the baseline to state[r]. gold: [rows], the ids to predict.
// rescale: [rows], receives the factor that earlier sums relative to the old
// maximum need. state starts as HeadRow(). Asynchronous. 0, or the CUDA error
// code: cudaErrorInvalidValue (1) for 2^31 rows and more, or no columns.
int HeadBaselineCuda(const HeadTile& tile, const int32_t* gold, HeadRow* state,
                     double* rescale, Stream stream);

// Adds the same columns of configurations to state[r]; row r belongs to row
// r % baseline.rows of the baseline, of gold and of rescale, so several
// configurations may lie one after the other. baseline_state, rescale: after
// HeadBaselineCuda of this tile. Asynchronous. Errors as above, and (1) for
// tiles of different columns.
int HeadConfigurationCuda(const HeadTile& tile, const HeadTile& baseline,
                          const int32_t* gold, const HeadRow* baseline_state,
                          const double* rescale, HeadRow* state, Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_HEAD_STATS_H_
