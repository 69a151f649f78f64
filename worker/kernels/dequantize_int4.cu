#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/dequantize_int4.h"
#include "worker/kernels/launch.h"

namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kCodes = 8;  // of a word

struct Work {
  Int4Matrix matrix;
  void* out;
  bool aligned;
  uint32_t blocks_per_row;
  uint32_t groups_per_row;
};

struct Group {
  float scale;
  int zero;
};

template <typename Scale>
QSWEEP_DEVICE Group GroupOf(const Work& work, int64_t row, uint32_t group) {
  const auto* scales =
      static_cast<const typename Scale::Stored*>(work.matrix.scales);
  const float scale =
      Scale::Decode(Load(scales + row * work.groups_per_row + group));
  if (work.matrix.zeros == nullptr) {
    return {scale, 8};
  }
  const int64_t zero_words = CeilDiv(work.groups_per_row, kCodes);
  const uint32_t word =
      Load(work.matrix.zeros + row * zero_words + group / kCodes);
  return {scale, static_cast<int>(word >> 4 * (group % kCodes) & 15)};
}

// A word of codes for each thread.
template <typename Scale, typename Out>
QSWEEP_KERNEL DequantizeKernel(Work work) {
  const uint32_t block = static_cast<uint32_t>(BlockIndex());
  const int64_t row = block / work.blocks_per_row;
  const int64_t word =
      static_cast<int64_t>(block % work.blocks_per_row) * kThreads +
      ThreadIndex();
  const int64_t words = CeilDiv(work.matrix.cols, kCodes);
  if (word >= words) {
    return;
  }
  const uint32_t codes = Load(work.matrix.codes + row * words + word);
  const int64_t col = word * kCodes;
  const int64_t left = work.matrix.cols - col;
  const int count = left < kCodes ? static_cast<int>(left) : kCodes;
  int64_t index = col / work.matrix.group_size;
  int64_t group_end = (index + 1) * work.matrix.group_size;
  Group group = GroupOf<Scale>(work, row, static_cast<uint32_t>(index));
  float values[kCodes];
  for (int i = 0; i < kCodes; ++i) {
    if (i < count) {
      if (col + i == group_end) {
        ++index;
        group_end += work.matrix.group_size;
        group = GroupOf<Scale>(work, row, static_cast<uint32_t>(index));
      }
      const int code = static_cast<int>(codes >> 4 * i & 15);
      values[i] = Multiply(group.scale, static_cast<float>(code - group.zero));
    }
  }
  StoreNumbers<Out, kCodes>(values, count, work.aligned,
                            static_cast<typename Out::Stored*>(work.out),
                            row * work.matrix.cols + col);
}

template <typename Scale>
int LaunchTo(const Work& work, FloatType out_type, Stream stream) {
  const Grid grid = {work.matrix.rows * work.blocks_per_row, kThreads};
  switch (out_type) {
    case FloatType::kFp32:
      return Launch(DequantizeKernel<Scale, Fp32>, grid, stream, work);
    case FloatType::kFp16:
      return Launch(DequantizeKernel<Scale, Fp16>, grid, stream, work);
    case FloatType::kBf16:
      return Launch(DequantizeKernel<Scale, Bf16>, grid, stream, work);
  }
  return kInvalidValue;
}

}  // namespace

int DequantizeInt4Cuda(const Int4Matrix& matrix, void* out, FloatType out_type,
                       Stream stream) {
  if (matrix.group_size < 1 || matrix.scale_type == FloatType::kBf16) {
    return kInvalidValue;
  }
  if (matrix.rows < 1 || matrix.cols < 1) {
    return 0;
  }
  const int64_t groups = CeilDiv(matrix.cols, matrix.group_size);
  const int64_t blocks = CeilDiv(matrix.cols, int64_t{kCodes} * kThreads);
  if (groups > INT32_MAX || blocks > INT32_MAX / matrix.rows) {
    return kInvalidValue;
  }
  const Work work = {.matrix = matrix,
                     .out = out,
                     .aligned = matrix.cols % kCodes == 0 && IsAligned16(out),
                     .blocks_per_row = static_cast<uint32_t>(blocks),
                     .groups_per_row = static_cast<uint32_t>(groups)};
  return matrix.scale_type == FloatType::kFp16
             ? LaunchTo<Fp16>(work, out_type, stream)
             : LaunchTo<Fp32>(work, out_type, stream);
}

}  // namespace qsweep::kernels
