#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/dequantize_int4.h"
#include "worker/kernels/launch.h"

namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kCodes = 8;  // of a word
constexpr int kWords = 4;  // of a thread, kThreads apart

struct Work {
  Int4Matrix matrix;
  void* out;
  bool aligned;
  bool whole_words;  // a word's codes share a group
  uint32_t blocks_per_row;
  uint32_t groups_per_row;
  uint32_t words_per_row;
  uint32_t words_per_group;  // where a group has whole words
};

struct Group {
  float scale;
  float zero;  // 2^23 + the zero, as a code's number
};

// A small integer as a number, without a conversion: 2^23 + n.
QSWEEP_DEVICE float Raised(uint32_t n) { return FloatOf(0x4b000000 | n); }

template <typename Scale>
QSWEEP_DEVICE Group GroupOf(const Work& work, int64_t row, uint32_t group) {
  const auto* scales =
      static_cast<const typename Scale::Stored*>(work.matrix.scales);
  const float scale =
      Scale::Decode(Load(scales + row * work.groups_per_row + group));
  if (work.matrix.zeros == nullptr) {
    return {scale, Raised(8)};
  }
  const int64_t zero_words = CeilDiv(work.groups_per_row, kCodes);
  const uint32_t word =
      Load(work.matrix.zeros + row * zero_words + group / kCodes);
  return {scale, Raised(word >> 4 * (group % kCodes) & 15)};
}

// The i-th code of a word. code - zero is exact.
QSWEEP_DEVICE float ValueOf(uint32_t codes, int i, const Group& group) {
  return Multiply(group.scale, Add(Raised(codes >> 4 * i & 15), -group.zero));
}

// A word whose codes may belong to several groups or end behind the row.
template <typename Scale, typename Out>
QSWEEP_DEVICE void DequantizeEdge(const Work& work, int64_t row, int64_t word,
                                  uint32_t codes) {
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
      values[i] = ValueOf(codes, i, group);
    }
  }
  StoreNumbers<Out, kCodes>(values, count, work.aligned,
                            static_cast<typename Out::Stored*>(work.out),
                            row * work.matrix.cols + col);
}

// A part of a row for each block. All reads of a thread are in flight at once.
template <typename Scale, typename Out>
QSWEEP_KERNEL DequantizeKernel(Work work) {
  const uint32_t block = static_cast<uint32_t>(BlockIndex());
  const uint32_t row = block / work.blocks_per_row;
  const uint32_t first =
      (block - row * work.blocks_per_row) * (kThreads * kWords) +
      static_cast<uint32_t>(ThreadIndex());
  const uint32_t* row_codes =
      work.matrix.codes + static_cast<int64_t>(row) * work.words_per_row;
  if (!work.whole_words) {
    for (int w = 0; w < kWords; ++w) {
      const uint32_t word = first + static_cast<uint32_t>(w * kThreads);
      if (word < work.words_per_row) {
        DequantizeEdge<Scale, Out>(work, row, word, Load(row_codes + word));
      }
    }
    return;
  }
  uint32_t codes[kWords] = {};
  for (int w = 0; w < kWords; ++w) {
    const uint32_t word = first + static_cast<uint32_t>(w * kThreads);
    if (word < work.words_per_row) {
      codes[w] = Load(row_codes + word);
    }
  }
  Group groups[kWords] = {};
  for (int w = 0; w < kWords; ++w) {
    const uint32_t word = first + static_cast<uint32_t>(w * kThreads);
    if (word < work.words_per_row) {
      groups[w] = GroupOf<Scale>(work, row, word / work.words_per_group);
    }
  }
  auto* out =
      static_cast<typename Out::Stored*>(work.out) + row * work.matrix.cols;
  for (int w = 0; w < kWords; ++w) {
    const uint32_t word = first + static_cast<uint32_t>(w * kThreads);
    if (word < work.words_per_row) {
      float values[kCodes];
      for (int i = 0; i < kCodes; ++i) {
        values[i] = ValueOf(codes[w], i, groups[w]);
      }
      StoreNumbers<Out, kCodes>(values, kCodes, work.aligned, out,
                                int64_t{word} * kCodes);
    }
  }
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
  const int64_t words = CeilDiv(matrix.cols, kCodes);
  const int64_t blocks = CeilDiv(words, int64_t{kThreads} * kWords);
  if (groups > INT32_MAX || words > INT32_MAX ||
      blocks > INT32_MAX / matrix.rows) {
    return kInvalidValue;
  }
  const int64_t group_size =
      matrix.group_size < matrix.cols ? matrix.group_size : matrix.cols;
  const Work work = {
      .matrix = matrix,
      .out = out,
      .aligned = matrix.cols % kCodes == 0 && IsAligned16(out),
      .whole_words = matrix.cols % kCodes == 0 && group_size % kCodes == 0,
      .blocks_per_row = static_cast<uint32_t>(blocks),
      .groups_per_row = static_cast<uint32_t>(groups),
      .words_per_row = static_cast<uint32_t>(words),
      .words_per_group = static_cast<uint32_t>(group_size / kCodes)};
  return matrix.scale_type == FloatType::kFp16
             ? LaunchTo<Fp16>(work, out_type, stream)
             : LaunchTo<Fp32>(work, out_type, stream);
}

}  // namespace qsweep::kernels
