#include <cstdint>

#include "worker/kernels/cuda_exp.h"
#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/decoder_rows.h"
#include "worker/kernels/launch.h"

namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kValues = kPerVector<Fp16>;  // of a thread at a time
constexpr int kFloatSteps =
    4;  // so many times before the sum goes on in double

// The sum over the block's threads, in one order; every thread gets it. Once in
// a kernel.
QSWEEP_DEVICE double SumOfBlock(double sum) {
  struct Shared {
    double of_thread[kThreads];
    double total;
  };
  QSWEEP_SHARED(Shared, shared);
  shared.of_thread[ThreadIndex()] = sum;
  SyncBlock();
  if (ThreadIndex() < kWarpThreads) {
    for (int warp = 1; warp < kWarps; ++warp) {
      sum = Add(sum, shared.of_thread[warp * kWarpThreads + ThreadIndex()]);
    }
    for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
      sum = Add(sum, ShuffleXor(sum, mask));
    }
    if (ThreadIndex() == 0) {
      shared.total = sum;
    }
  }
  SyncBlock();
  return shared.total;
}

struct NormWork {
  const float* rows;
  int64_t width;
  const float* gains;
  float eps;
  void* out;
  bool aligned;
};

// A block takes a row and reads it twice, the second time from the cache.
template <typename Out>
QSWEEP_KERNEL RmsNormKernel(NormWork work) {
  const int64_t begin = BlockIndex() * work.width;
  float values[kValues];
  double sum = 0;
  float squares = 0;
  int steps = 0;
  for (int64_t column = ThreadIndex() * kValues; column < work.width;
       column += kThreads * kValues) {
    const int count = LoadNumbers<Fp32, kValues>(
        work.rows + begin, column, work.width, work.aligned, values);
    for (int i = 0; i < kValues; ++i) {
      if (i < count) {
        squares = MultiplyAdd(values[i], values[i], squares);
      }
    }
    if (++steps % kFloatSteps == 0) {
      sum = Add(sum, static_cast<double>(squares));
      squares = 0;
    }
  }
  sum = SumOfBlock(Add(sum, static_cast<double>(squares)));
  const float mean =
      static_cast<float>(Divide(sum, static_cast<double>(work.width)));
  const float scale = Divide(1.0f, SquareRoot(Add(mean, work.eps)));
  float gains[kValues];
  for (int64_t column = ThreadIndex() * kValues; column < work.width;
       column += kThreads * kValues) {
    const int count = LoadNumbers<Fp32, kValues>(
        work.rows + begin, column, work.width, work.aligned, values);
    LoadNumbers<Fp32, kValues>(work.gains, column, work.width, work.aligned,
                               gains);
    for (int i = 0; i < kValues; ++i) {
      if (i < count) {
        values[i] = Multiply(Multiply(values[i], scale), gains[i]);
      }
    }
    StoreNumbers<Out, kValues>(values, count, work.aligned,
                               static_cast<typename Out::Stored*>(work.out),
                               begin + column);
  }
}

struct RotateWork {
  float* rows;
  int64_t stride;
  int heads;
  int half;  // of a head
  const int32_t* positions;
  RotaryTables tables;
};

// A block takes a row, its threads the pairs of all heads.
QSWEEP_KERNEL RotateKernel(RotateWork work) {
  const int64_t r = BlockIndex();
  float* const row = work.rows + r * work.stride;
  const int64_t table = int64_t{Load(work.positions + r)} * work.half;
  const int pairs = work.heads * work.half;
  for (int pair = ThreadIndex(); pair < pairs; pair += kThreads) {
    const int i = pair % work.half;
    float* const low = row + pair / work.half * 2 * work.half + i;
    float* const high = low + work.half;
    const float a = Load(low);
    const float b = Load(high);
    const float c = Load(work.tables.cosines + table + i);
    const float s = Load(work.tables.sines + table + i);
    Store(low, Add(Multiply(a, c), -Multiply(b, s)));
    Store(high, Add(Multiply(b, c), Multiply(a, s)));
  }
}

// silu(x) = x / (1 + exp(-x)), with exp of a number that is never positive.
QSWEEP_DEVICE float Silu(float x) {
  const float e = ExpOf(x > 0 ? -x : x);
  const float sigmoid = Divide(x > 0 ? 1.0f : e, Add(1.0f, e));
  return Multiply(x, sigmoid);
}

struct PairWork {
  const float* x;
  const float* y;
  int64_t count;
  void* out;
  bool aligned;
};

template <typename Out>
QSWEEP_KERNEL SiluMultiplyKernel(PairWork work) {
  const int64_t index = (BlockIndex() * kThreads + ThreadIndex()) * kValues;
  float gate[kValues];
  float up[kValues];
  const int count =
      LoadNumbers<Fp32, kValues>(work.x, index, work.count, work.aligned, gate);
  LoadNumbers<Fp32, kValues>(work.y, index, work.count, work.aligned, up);
  for (int i = 0; i < kValues; ++i) {
    if (i < count) {
      gate[i] = Multiply(Silu(gate[i]), up[i]);
    }
  }
  StoreNumbers<Out, kValues>(gate, count, work.aligned,
                             static_cast<typename Out::Stored*>(work.out),
                             index);
}

QSWEEP_KERNEL AddKernel(PairWork work) {
  const int64_t index = (BlockIndex() * kThreads + ThreadIndex()) * kValues;
  float x[kValues];
  float y[kValues];
  const int count =
      LoadNumbers<Fp32, kValues>(work.x, index, work.count, work.aligned, x);
  LoadNumbers<Fp32, kValues>(work.y, index, work.count, work.aligned, y);
  for (int i = 0; i < kValues; ++i) {
    if (i < count) {
      x[i] = Add(x[i], y[i]);
    }
  }
  StoreNumbers<Fp32, kValues>(x, count, work.aligned,
                              static_cast<float*>(work.out), index);
}

PairWork PairsOf(const float* x, const float* y, int64_t count, void* out) {
  return {.x = x,
          .y = y,
          .count = count,
          .out = out,
          .aligned = IsAligned16(x) && IsAligned16(y) && IsAligned16(out)};
}

// The kernel that writes out_type.
template <typename Work>
int LaunchTo(void (*fp32)(Work), void (*fp16)(Work), void (*bf16)(Work),
             FloatType out_type, int64_t blocks, const Work& work,
             Stream stream) {
  if (blocks > INT32_MAX) {
    return kInvalidValue;
  }
  switch (out_type) {
    case FloatType::kFp32:
      return Launch(fp32, {blocks, kThreads}, stream, work);
    case FloatType::kFp16:
      return Launch(fp16, {blocks, kThreads}, stream, work);
    case FloatType::kBf16:
      return Launch(bf16, {blocks, kThreads}, stream, work);
  }
  return kInvalidValue;
}

}  // namespace

int RmsNormCuda(const float* rows, int64_t num_rows, int64_t width,
                const float* gains, float eps, void* out, FloatType out_type,
                Stream stream) {
  if (num_rows < 1 || width < 1) {
    return 0;
  }
  const NormWork work = {.rows = rows,
                         .width = width,
                         .gains = gains,
                         .eps = eps,
                         .out = out,
                         .aligned = width % kValues == 0 && IsAligned16(rows) &&
                                    IsAligned16(gains) && IsAligned16(out)};
  return LaunchTo(RmsNormKernel<Fp32>, RmsNormKernel<Fp16>, RmsNormKernel<Bf16>,
                  out_type, num_rows, work, stream);
}

int RotateCuda(float* rows, int64_t num_rows, int64_t stride, int heads,
               int head_dim, const int32_t* positions,
               const RotaryTables& tables, Stream stream) {
  if (num_rows < 1 || heads < 1 || head_dim < 2) {
    return 0;
  }
  if (num_rows > INT32_MAX) {
    return kInvalidValue;
  }
  return Launch(RotateKernel, {num_rows, kThreads}, stream,
                RotateWork{.rows = rows,
                           .stride = stride,
                           .heads = heads,
                           .half = head_dim / 2,
                           .positions = positions,
                           .tables = tables});
}

int SiluMultiplyCuda(const float* gate, const float* up, int64_t count,
                     void* out, FloatType out_type, Stream stream) {
  if (count < 1) {
    return 0;
  }
  return LaunchTo(SiluMultiplyKernel<Fp32>, SiluMultiplyKernel<Fp16>,
                  SiluMultiplyKernel<Bf16>, out_type,
                  CeilDiv(count, int64_t{kThreads} * kValues),
                  PairsOf(gate, up, count, out), stream);
}

int AddCuda(const float* x, const float* y, int64_t count, float* out,
            Stream stream) {
  if (count < 1) {
    return 0;
  }
  const int64_t blocks = CeilDiv(count, int64_t{kThreads} * kValues);
  if (blocks > INT32_MAX) {
    return kInvalidValue;
  }
  return Launch(AddKernel, {blocks, kThreads}, stream,
                PairsOf(x, y, count, out));
}

}  // namespace qsweep::kernels
