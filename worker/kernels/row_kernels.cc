#include "worker/kernels/row_kernels.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include <sys/mman.h>

#include "worker/kernels/cpu_levels.h"
#include "worker/kernels/row_kernels_levels.h"

namespace qsweep::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};

// The heap would keep what it has once had of this size.
constexpr size_t kOwnPagesBytes = size_t{1} << 20;

struct Levels {
  std::array<const RowKernels*, 2> kernels = {};
  size_t count = 0;
};

const Levels& DetectLevels() {
  static const Levels kLevels = [] {
    Levels levels;
    levels.kernels[levels.count++] = &RowKernelsBaseline();
#if defined(__x86_64__)
    if (RunsAvx2Level()) {
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
  if (bytes < kOwnPagesBytes) {
    data_.reset(static_cast<float*>(::operator new[](bytes, kAlignment)));
    std::memset(data_.get(), 0, bytes);
    return;
  }
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    throw std::bad_alloc();
  }
  data_ = {static_cast<float*>(pages), Free(bytes)};
}

void FloatBuffer::Free::operator()(float* data) const {
  if (mapped_bytes > 0) {
    munmap(data, mapped_bytes);
  } else {
    ::operator delete[](data, kAlignment);
  }
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
