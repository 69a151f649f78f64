#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/kept_weights_cuda.h"
#include "worker/kernels/launch.h"

namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kValues = kPerVector<Fp16>;  // of a thread
constexpr uint32_t kSign = 0x80000000u;

struct KeepWork {
  const void* weights;
  void* out;
  int64_t count;
  float from;
  bool aligned;
};

// Few weights are kept: each is written by itself.
template <typename In, typename Out>
QSWEEP_KERNEL KeepKernel(KeepWork work) {
  const int64_t index = (BlockIndex() * kThreads + ThreadIndex()) * kValues;
  float values[kValues];
  const int count = LoadNumbers<In, kValues>(
      static_cast<const typename In::Stored*>(work.weights), index, work.count,
      work.aligned, values);
  for (int i = 0; i < kValues; ++i) {
    if (i < count && FloatOf(BitsOf(values[i]) & ~kSign) >= work.from) {
      Store(static_cast<typename Out::Stored*>(work.out) + index + i,
            Out::Encode(values[i]));
    }
  }
}

template <typename In>
int LaunchKeep(const KeepWork& work, bool widen, Grid grid, Stream stream) {
  return widen ? Launch(KeepKernel<In, Fp32>, grid, stream, work)
               : Launch(KeepKernel<In, In>, grid, stream, work);
}

}  // namespace

int KeepWeightsCuda(const KeptBuffers& buffers, int64_t count, float from,
                    Stream stream) {
  const Grid grid{.blocks = CeilDiv(count, int64_t{kThreads} * kValues),
                  .threads = kThreads};
  if (buffers.weights == nullptr || buffers.out == nullptr ||
      (buffers.out_type != buffers.weight_type &&
       buffers.out_type != FloatType::kFp32) ||
      grid.blocks > INT32_MAX) {
    return kInvalidValue;
  }
  if (count == 0) {
    return 0;
  }
  const KeepWork work{.weights = buffers.weights,
                      .out = buffers.out,
                      .count = count,
                      .from = from,
                      .aligned = IsAligned16(buffers.weights)};
  const bool widen = buffers.out_type == FloatType::kFp32;
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return LaunchKeep<Fp32>(work, widen, grid, stream);
    case FloatType::kFp16:
      return LaunchKeep<Fp16>(work, widen, grid, stream);
    case FloatType::kBf16:
      return LaunchKeep<Bf16>(work, widen, grid, stream);
  }
  return kInvalidValue;
}

}  // namespace qsweep::kernels
