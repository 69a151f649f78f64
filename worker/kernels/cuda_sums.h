#ifndef QSWEEP_WORKER_KERNELS_CUDA_SUMS_H_
#define QSWEEP_WORKER_KERNELS_CUDA_SUMS_H_

#include <cstdint>

#include "worker/kernels/launch.h"

// The sum of many numbers in one order, for .cu files only: lane l adds up the
// numbers l, l + kSumLanes, ... in fp64, then halves of the lanes are added
// onto halves. Two launches: the lanes over several blocks, then one block.
namespace qsweep::kernels {

inline constexpr int kSumThreads = 256;  // of a block, in both launches
inline constexpr int kSumLanes = 4096;
inline constexpr int kSumBlocks = kSumLanes / kSumThreads;  // first launch

// First launch: one lane. sums: [kSumLanes].
QSWEEP_DEVICE void StoreSumOfLane(const float* numbers, int64_t count,
                                  int64_t lane, double* sums) {
  constexpr int kAtOnce = 16;  // reads in flight
  double sum = 0;
  for (int64_t first = lane; first < count; first += kAtOnce * kSumLanes) {
    float next[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t at = first + i * kSumLanes;
      next[i] = at < count ? Load(numbers + at) : 0;
    }
    for (const float number : next) {
      sum = Add(sum, static_cast<double>(number));
    }
  }
  Store(sums + lane, sum);
}

// Second launch, one block: the sum, for thread 0. In one place of a kernel; in
// a loop, SyncBlock comes before the next one.
QSWEEP_DEVICE double SumOfLanes(const double* sums) {
  constexpr int kOwn = kSumLanes / kSumThreads;
  struct Shared {
    double of_thread[kSumThreads];
  };
  QSWEEP_SHARED(Shared, shared);
  double own[kOwn];
  for (int i = 0; i < kOwn; ++i) {
    own[i] = Load(sums + i * kSumThreads + ThreadIndex());
  }
  for (int half = kOwn / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      own[i] = Add(own[i], own[i + half]);
    }
  }
  shared.of_thread[ThreadIndex()] = own[0];
  for (int half = kSumThreads / 2; half > 0; half /= 2) {
    SyncBlock();
    if (ThreadIndex() < half) {
      shared.of_thread[ThreadIndex()] =
          Add(shared.of_thread[ThreadIndex()],
              shared.of_thread[ThreadIndex() + half]);
    }
  }
  return shared.of_thread[0];
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_SUMS_H_
