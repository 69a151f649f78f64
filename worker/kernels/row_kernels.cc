#include "worker/kernels/row_kernels.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "worker/kernels/row_kernels_levels.h"

namespace qsweep::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Levels {
  std::array<const RowKernels*, 2> kernels = {};
  size_t count = 0;
};

const Levels& DetectLevels() {
  static const Levels kLevels = [] {
    Levels levels;
    levels.kernels[levels.count++] = &RowKernelsBaseline();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      levels.kernels[levels.count++] = &RowKernelsAvx2();
    }
#endif
    return levels;
  }();
  return kLevels;
}

}  // namespace

FloatBuffer::FloatBuffer(int64_t size) : size_(size) {
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  data_.reset(static_cast<float*>(::operator new[](bytes, kAlignment)));
  std::memset(data_.get(), 0, bytes);
}

void FloatBuffer::Free::operator()(float* data) const {
  ::operator delete[](data, kAlignment);
}

const RowKernels& BestRowKernels() {
  const Levels& levels = DetectLevels();
  return *levels.kernels[levels.count - 1];
}

std::span<const RowKernels* const> AvailableRowKernels() {
  const Levels& levels = DetectLevels();
  return std::span(levels.kernels).first(levels.count);
}

TokenScore ScoreOf(const HeadRow& baseline, const HeadRow& configuration) {
  const double log_sum_fp =
      static_cast<double>(baseline.max) + std::log(baseline.sum_exp);
  const double log_sum =
      static_cast<double>(configuration.max) + std::log(configuration.sum_exp);
  return {.nll = log_sum - static_cast<double>(configuration.gold_logit),
          .nll_fp = log_sum_fp - static_cast<double>(baseline.gold_logit),
          .kl = configuration.cross / baseline.sum_exp - log_sum_fp + log_sum,
          .top1 = baseline.argmax == configuration.argmax};
}

}  // namespace qsweep::kernels
