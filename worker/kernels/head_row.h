#ifndef QSWEEP_WORKER_KERNELS_HEAD_ROW_H_
#define QSWEEP_WORKER_KERNELS_HEAD_ROW_H_

#include <cstdint>

namespace qsweep::kernels {

// One row of logits over the vocabulary so far. NaN and infinity end up in
// sum_exp.
struct HeadRow {
  float max = 0;
  int32_t argmax = -1;  // lowest id of the largest logit; -1: none yet
  float gold_logit = 0;
  double sum_exp = 0;  // of logit - max
  double cross = 0;    // sum of p (z - z') over the vocabulary, with the
                       // baseline's exp(z - max) as p; configurations only
};

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_HEAD_ROW_H_
