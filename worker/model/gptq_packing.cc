#include "worker/model/gptq_packing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr int64_t kWordBits = 32;
constexpr int64_t kWordBytes = 4;

// Files align nothing.
uint32_t LoadWord(std::span<const uint8_t> bytes, int64_t index) {
  uint32_t word = 0;
  std::memcpy(&word, bytes.data() + index * kWordBytes, kWordBytes);
  return word;
}

int64_t NumWords(int64_t count, int bits) { return count * bits / kWordBits; }

// Code `index` of a stream of codes whose word w is word(w).
template <typename Word>
int CodeAt(int64_t index, int bits, Word word) {
  const int64_t bit = index * bits;
  const int64_t first = bit / kWordBits;
  const int shift = static_cast<int>(bit % kWordBits);
  uint64_t pair = word(first);
  if (shift + bits > kWordBits) {  // 3 bits: the code goes on in the next word
    pair |= uint64_t{word(first + 1)} << kWordBits;
  }
  return static_cast<int>(pair >> shift & ((uint64_t{1} << bits) - 1));
}

// Zero points as the weights need them, [groups, rows].
std::vector<uint8_t> UnpackZeros(const GptqMatrix& matrix) {
  const int bits = matrix.module.bits;
  const int64_t words = NumWords(matrix.rows, bits);
  const int mask = (1 << bits) - 1;
  std::vector<uint8_t> zeros;
  zeros.reserve(static_cast<size_t>(matrix.groups * matrix.rows));
  for (int64_t group = 0; group < matrix.groups; ++group) {
    for (int64_t row = 0; row < matrix.rows; ++row) {
      const int stored = CodeAt(row, bits, [&](int64_t w) {
        return LoadWord(matrix.tensors.qzeros->data, group * words + w);
      });
      // Per field: adding 1 to a whole word would carry.
      zeros.push_back(static_cast<uint8_t>(
          matrix.zeros_minus_one ? (stored + 1) & mask : stored));
    }
  }
  return zeros;
}

std::vector<int32_t> GroupsOfColumns(const GptqMatrix& matrix) {
  std::vector<int32_t> groups(static_cast<size_t>(matrix.columns));
  const int64_t size = matrix.module.group_size;
  for (int64_t column = 0; column < matrix.columns; ++column) {
    groups[static_cast<size_t>(column)] =
        matrix.tensors.g_idx != nullptr
            ? static_cast<int32_t>(LoadWord(matrix.tensors.g_idx->data, column))
        : size == 0 ? 0
                    : static_cast<int32_t>(column / size);
  }
  return groups;
}

absl::Status CheckTensor(const StoredTensor& tensor, bool integers,
                         const std::vector<int64_t>& shape,
                         const GptqModule& module, const std::string& file) {
  const bool is_integer = tensor.type == TensorType::kI32;
  if (is_integer != integers || InfoOf(tensor.type).block_elements != 1) {
    return MakeError(kUnsupportedTensorType,
                     absl::StrCat("tensor '", tensor.name, "' is stored as ",
                                  InfoOf(tensor.type).name, ", not as ",
                                  integers ? "I32" : "F16, BF16 or F32"),
                     file, "Use another checkpoint of the model.");
  }
  if (tensor.shape != shape) {
    return MakeError(
        kTensorShapeMismatch,
        absl::StrCat("tensor '", tensor.name, "' has shape [",
                     absl::StrJoin(tensor.shape, ", "),
                     "], the configuration says [", absl::StrJoin(shape, ", "),
                     "]: ", module.bits, " bits, ",
                     module.group_size == 0
                         ? "one group per row"
                         : absl::StrCat("groups of ", module.group_size)),
        file, "Configuration and weights are of different models.");
  }
  return absl::OkStatus();
}

// Bits of an fp16 from the fp32 of the same value.
uint16_t HalfBits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
  if (exponent <= 0) {  // a multiple of 2^-24
    return sign | static_cast<uint16_t>(std::fabs(value) * 0x1p24f);
  }
  QSWEEP_CHECK(exponent < 31 && (bits & 0x1fff) == 0);
  return static_cast<uint16_t>(sign | exponent << 10 | (bits >> 13 & 0x3ff));
}

void Append(uint32_t value, int64_t bytes, std::string& out) {
  for (int64_t i = 0; i < bytes; ++i) {
    out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
}

// A stream of `count` codes in words. code(i): the i-th.
template <typename Code>
std::vector<uint32_t> PackStream(int64_t count, int bits, Code code) {
  std::vector<uint32_t> words(static_cast<size_t>(NumWords(count, bits)));
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t value = code(i);
    const auto word = static_cast<size_t>(i * bits / kWordBits);
    const int shift = static_cast<int>(i * bits % kWordBits);
    words[word] |= static_cast<uint32_t>(value << shift);
    if (shift + bits > kWordBits) {
      words[word + 1] |= static_cast<uint32_t>(value >> (kWordBits - shift));
    }
  }
  return words;
}

}  // namespace

double GptqMatrix::stored_bits() const {
  const size_t bytes =
      tensors.qweight->data.size() + tensors.qzeros->data.size() +
      tensors.scales->data.size() +
      (tensors.g_idx != nullptr ? tensors.g_idx->data.size() : 0);
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(rows * columns);
}

int64_t GptqMatrix::num_wrapped_zeros() const {
  const std::vector<uint8_t> zeros = UnpackZeros(*this);
  return zeros_minus_one ? std::count(zeros.begin(), zeros.end(), 0) : 0;
}

absl::Status GptqMatrix::Unpack(std::span<float> out,
                                const Stopped& stopped) const {
  QSWEEP_CHECK(static_cast<int64_t>(out.size()) == rows * columns);
  const std::vector<uint8_t> zeros = UnpackZeros(*this);
  std::vector<float> scales(zeros.size());
  Dequantize(tensors.scales->type, tensors.scales->data, scales);
  const std::vector<int32_t> group_of_column = GroupsOfColumns(*this);
  const std::span<const uint8_t> words = tensors.qweight->data;
  // 32 columns at a time: whole words at any number of bits, and short runs
  // of memory on both sides.
  for (int64_t first = 0; first < columns; first += kWordBits) {
    if (IsStopped(stopped)) {
      return absl::CancelledError("The unpacking of a tensor was stopped.");
    }
    const int64_t count = std::min(kWordBits, columns - first);
    const int64_t first_word = NumWords(first, module.bits);
    for (int64_t row = 0; row < rows; ++row) {
      float* const values = out.data() + row * columns + first;
      for (int64_t i = 0; i < count; ++i) {
        const int code = CodeAt(i, module.bits, [&](int64_t w) {
          return LoadWord(words, (first_word + w) * rows + row);
        });
        const auto at = static_cast<size_t>(
            group_of_column[static_cast<size_t>(first + i)] * rows + row);
        values[i] = scales[at] * static_cast<float>(code - zeros[at]);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GptqMatrix> CheckGptqMatrix(const GptqTensors& tensors,
                                           int64_t rows, int64_t columns,
                                           const GptqModule& module,
                                           bool zeros_minus_one,
                                           const std::string& name,
                                           const std::string& file) {
  if (!CanPackGptq(rows, columns, module.bits)) {
    return MakeError(kTensorShapeMismatch,
                     absl::StrCat("'", name, "' is [", rows, ", ", columns,
                                  "], which does not fill 32-bit words at ",
                                  module.bits, " bits"),
                     file,
                     "Configuration and weights are of different models.");
  }
  const int64_t size = module.group_size == 0 ? columns : module.group_size;
  GptqMatrix matrix{.tensors = tensors,
                    .rows = rows,
                    .columns = columns,
                    .groups = (columns + size - 1) / size,
                    .module = module,
                    .zeros_minus_one = zeros_minus_one};
  const int bits = module.bits;
  QSWEEP_RETURN_IF_ERROR(CheckTensor(*tensors.qweight, /*integers=*/true,
                                     {NumWords(columns, bits), rows}, module,
                                     file));
  QSWEEP_RETURN_IF_ERROR(CheckTensor(*tensors.qzeros, /*integers=*/true,
                                     {matrix.groups, NumWords(rows, bits)},
                                     module, file));
  QSWEEP_RETURN_IF_ERROR(CheckTensor(*tensors.scales, /*integers=*/false,
                                     {matrix.groups, rows}, module, file));
  if (tensors.g_idx != nullptr) {
    QSWEEP_RETURN_IF_ERROR(CheckTensor(*tensors.g_idx, /*integers=*/true,
                                       {columns}, module, file));
    for (const int32_t group : GroupsOfColumns(matrix)) {
      if (group < 0 || group >= matrix.groups) {
        return MakeError(
            kCorruptModel,
            absl::StrCat("tensor '", tensors.g_idx->name, "' names the group ",
                         group, ", there are ", matrix.groups),
            file, "Download the model again.");
      }
    }
  }
  const std::vector<uint8_t> zeros = UnpackZeros(matrix);
  const int middle = 1 << (bits - 1);
  const auto other = std::find_if(zeros.begin(), zeros.end(),
                                  [&](uint8_t zero) { return zero != middle; });
  if (module.symmetric && other != zeros.end()) {
    return MakeError(
        kBadModelConfig,
        absl::StrCat("the configuration says sym=true, but a zero point of '",
                     name, "' is ", int{*other}, ", not ", middle),
        file, "Correct sym or checkpoint_format, or use another checkpoint.");
  }
  return matrix;
}

bool CanPackGptq(int64_t rows, int64_t columns, int bits) {
  return rows * bits % kWordBits == 0 && columns * bits % kWordBits == 0;
}

GptqBytes PackGptq(const GptqCodes& codes) {
  QSWEEP_CHECK(CanPackGptq(codes.rows, codes.columns, codes.bits));
  GptqBytes bytes;
  const auto rows = static_cast<size_t>(codes.rows);
  const auto groups = static_cast<size_t>(codes.groups);
  std::vector<uint32_t> words(
      static_cast<size_t>(NumWords(codes.columns, codes.bits)) * rows);
  for (size_t row = 0; row < rows; ++row) {
    const uint8_t* const of_row =
        codes.codes.data() + row * static_cast<size_t>(codes.columns);
    const std::vector<uint32_t> stream =
        PackStream(codes.columns, codes.bits,
                   [&](int64_t i) { return of_row[static_cast<size_t>(i)]; });
    for (size_t word = 0; word < stream.size(); ++word) {
      words[word * rows + row] = stream[word];
    }
  }
  bytes.qweight.reserve(words.size() * kWordBytes);
  for (const uint32_t word : words) {
    Append(word, kWordBytes, bytes.qweight);
  }
  for (size_t group = 0; group < groups; ++group) {
    for (const uint32_t word :
         PackStream(codes.rows, codes.bits, [&](int64_t row) {
           return codes.zeros[static_cast<size_t>(row) * groups + group];
         })) {
      Append(word, kWordBytes, bytes.qzeros);
    }
    for (size_t row = 0; row < rows; ++row) {
      Append(HalfBits(codes.scales[row * groups + group]), 2, bytes.scales);
    }
  }
  for (const int32_t group : codes.group_of_column) {
    Append(static_cast<uint32_t>(group), kWordBytes, bytes.g_idx);
  }
  return bytes;
}

}  // namespace qsweep
