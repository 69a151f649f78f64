#include "worker/model/gptq_packing.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/error_matchers.h"
#include "tests/support/gptq_llama.h"
#include "tests/support/model_files.h"

namespace qsweep {
namespace {

using testing::AppendLittleEndian;
using testing::CodeOf;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::PackBits;

std::span<const uint8_t> BytesOf(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

template <typename T>
std::string Words(const std::vector<T>& values) {
  std::string bytes;
  for (const T value : values) {
    AppendLittleEndian(value, bytes);
  }
  return bytes;
}

// The tensors of one module, kept with their bytes.
struct Stored {
  std::string qweight_bytes, qzeros_bytes, scales_bytes, g_idx_bytes;
  StoredTensor qweight, qzeros, scales, g_idx;

  GptqTensors tensors() {
    qweight.data = BytesOf(qweight_bytes);
    qzeros.data = BytesOf(qzeros_bytes);
    scales.data = BytesOf(scales_bytes);
    g_idx.data = BytesOf(g_idx_bytes);
    return {.qweight = &qweight,
            .qzeros = &qzeros,
            .scales = &scales,
            .g_idx = g_idx.name.empty() ? nullptr : &g_idx};
  }
};

// [8, 8], 4 bits, groups of 4: codes 0 to 7 in every row, zero points of group
// g all 3 + g, scales 0.5 and 2.
Stored Small(int stored_zero_of_first) {
  const int zero = stored_zero_of_first;
  Stored stored;
  stored.qweight_bytes = Words(std::vector<uint32_t>(8, 0x76543210));
  std::string zeros;
  for (const int z : {zero, zero + 1}) {
    zeros += Words(PackBits(std::vector<int>(8, z), 4));
  }
  stored.qzeros_bytes = zeros;
  for (const int half : {0x3800, 0x4000}) {
    for (int row = 0; row < 8; ++row) {
      stored.scales_bytes.push_back(static_cast<char>(half & 0xff));
      stored.scales_bytes.push_back(static_cast<char>(half >> 8));
    }
  }
  stored.qweight = {"m.qweight", TensorType::kI32, {1, 8}, {}};
  stored.qzeros = {"m.qzeros", TensorType::kI32, {2, 1}, {}};
  stored.scales = {"m.scales", TensorType::kF16, {2, 8}, {}};
  return stored;
}

constexpr GptqModule kModule = {.bits = 4, .group_size = 4, .symmetric = false};

absl::StatusOr<GptqMatrix> Check(Stored& stored,
                                 const GptqModule& module = kModule,
                                 bool minus_one = false) {
  return CheckGptqMatrix(stored.tensors(), 8, 8, module, minus_one, "m",
                         "file");
}

std::vector<float> FirstRow(const GptqMatrix& matrix) {
  std::vector<float> out(64);
  QSWEEP_EXPECT_OK(matrix.Unpack(out));
  out.resize(8);
  return out;
}

TEST(GptqMatrix, UnpacksAWorkedExample_InBothFormats) {
  for (const bool minus_one : {false, true}) {
    Stored stored = Small(minus_one ? 2 : 3);
    const auto matrix = Check(stored, kModule, minus_one);
    QSWEEP_ASSERT_OK(matrix);
    EXPECT_THAT(FirstRow(*matrix),
                ElementsAre(-1.5f, -1, -0.5f, 0, 0, 2, 4, 6));
    EXPECT_EQ(matrix->num_wrapped_zeros(), 0);
    // 64 codes, 16 zero points of 4 bits, 16 scales of 16.
    EXPECT_EQ(matrix->stored_bits(), (64 * 4 + 16 * 4 + 16 * 16) / 64.0);
  }
}

TEST(GptqMatrix, WrapsEachZeroPointByItself_InV1) {
  Stored stored = Small(14);  // of the second group 15: 0, not 16
  const auto matrix = Check(stored, kModule, /*minus_one=*/true);
  QSWEEP_ASSERT_OK(matrix);
  EXPECT_THAT(FirstRow(*matrix),
              ElementsAre(-7.5f, -7, -6.5f, -6, 8, 10, 12, 14));
  EXPECT_EQ(matrix->num_wrapped_zeros(), 8);
}

TEST(GptqMatrix, GoesByGroupsOfColumns_WhereTheyAreGiven) {
  Stored stored = Small(3);
  stored.g_idx = {"m.g_idx", TensorType::kI32, {8}, {}};
  stored.g_idx_bytes = Words(std::vector<int32_t>{1, 0, 1, 0, 1, 0, 1, 0});
  const auto matrix = Check(stored);
  QSWEEP_ASSERT_OK(matrix);
  EXPECT_THAT(FirstRow(*matrix), ElementsAre(-8, -1, -4, 0, 0, 1, 4, 2));
}

TEST(GptqMatrix, RefusesTensors_ThatDoNotFitTheConfiguration) {
  struct Case {
    const char* name;
    std::function<void(Stored&, GptqModule&)> damage;
    const char* code;
    const char* text;
  };
  for (const Case& c : {
           Case{"other bits", [](auto&, auto& m) { m.bits = 8; }, "QS3012",
                "m.qweight' has shape [1, 8], the configuration says [2, 8]"},
           Case{"bits that fill no words", [](auto&, auto& m) { m.bits = 3; },
                "QS3012", "does not fill"},
           Case{"other groups", [](auto&, auto& m) { m.group_size = 8; },
                "QS3012", "groups of 8"},
           Case{"one group", [](auto&, auto& m) { m.group_size = 0; }, "QS3012",
                "one group per row"},
           Case{"qweight",
                [](auto& s, auto&) {
                  s.qweight.shape = {8, 1};
                },
                "QS3012", "m.qweight"},
           Case{"qzeros",
                [](auto& s, auto&) {
                  s.qzeros.shape = {1, 2};
                },
                "QS3012", "m.qzeros"},
           Case{"scales",
                [](auto& s, auto&) {
                  s.scales.shape = {8, 2};
                },
                "QS3012", "m.scales"},
           Case{"flat scales", [](auto& s, auto&) { s.scales.shape = {16}; },
                "QS3012", "m.scales"},
           Case{"floats as codes",
                [](auto& s, auto&) { s.qweight.type = TensorType::kF32; },
                "QS3009", "m.qweight' is stored as F32, not as I32"},
           Case{"integers as scales",
                [](auto& s, auto&) { s.scales.type = TensorType::kI32; },
                "QS3009", "m.scales' is stored as I32"},
           Case{"too few groups of columns",
                [](auto& s, auto&) {
                  s.g_idx = {"m.g_idx", TensorType::kI32, {7}, {}};
                  s.g_idx_bytes = std::string(28, '\0');
                },
                "QS3012", "m.g_idx"},
           Case{"a group that there is not",
                [](auto& s, auto&) {
                  s.g_idx = {"m.g_idx", TensorType::kI32, {8}, {}};
                  s.g_idx_bytes =
                      Words(std::vector<int32_t>{0, 0, 0, 0, 1, 1, 1, 2});
                },
                "QS3003", "m.g_idx' names the group 2, there are 2"},
           Case{"a group below 0",
                [](auto& s, auto&) {
                  s.g_idx = {"m.g_idx", TensorType::kI32, {8}, {}};
                  s.g_idx_bytes =
                      Words(std::vector<int32_t>{0, 0, 0, 0, 1, 1, 1, -1});
                },
                "QS3003", "the group -1"},
           Case{"zero points of its own",
                [](auto&, auto& m) { m.symmetric = true; }, "QS3011",
                "a zero point of 'm' is 3, not 8"},
       }) {
    SCOPED_TRACE(c.name);
    Stored stored = Small(3);
    GptqModule module = kModule;
    c.damage(stored, module);
    const auto matrix = Check(stored, module);
    EXPECT_EQ(CodeOf(matrix), c.code);
    EXPECT_THAT(std::string(matrix.status().message()), HasSubstr(c.text));
    EXPECT_EQ(FieldOf(matrix), "file");
  }
}

TEST(PackGptq, ComesBackFromUnpack_AtAllBitsAndGroups) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const int64_t group_size : {0, 7, 32, 100}) {
      SCOPED_TRACE(::testing::Message() << bits << " bits, " << group_size);
      constexpr int64_t kRows = 32;
      constexpr int64_t kColumns = 96;
      const int64_t size = group_size == 0 ? kColumns : group_size;
      const int64_t groups = (kColumns + size - 1) / size;
      Random random(7);
      const auto draw = [&](int limit) {
        return static_cast<uint8_t>(random.Uniform() * limit);
      };
      std::vector<uint8_t> codes, zeros;
      std::vector<float> scales;
      std::vector<int32_t> group_of_column;
      for (int64_t i = 0; i < kRows * kColumns; ++i) {
        codes.push_back(draw(1 << bits));
      }
      for (int64_t i = 0; i < kRows * groups; ++i) {
        zeros.push_back(draw(1 << bits));
        // fp16, its denormal numbers and zero among them.
        scales.push_back(
            std::ldexp(static_cast<float>(draw(8)), -static_cast<int>(i % 25)));
      }
      for (int64_t c = 0; c < kColumns; ++c) {
        group_of_column.push_back(
            static_cast<int32_t>((c * 5 + 1) % kColumns / size));
      }
      const GptqBytes bytes = PackGptq({.rows = kRows,
                                        .columns = kColumns,
                                        .groups = groups,
                                        .bits = bits,
                                        .codes = codes,
                                        .zeros = zeros,
                                        .scales = scales,
                                        .group_of_column = group_of_column});
      Stored stored{.qweight_bytes = bytes.qweight,
                    .qzeros_bytes = bytes.qzeros,
                    .scales_bytes = bytes.scales,
                    .g_idx_bytes = bytes.g_idx};
      stored.qweight = {
          "q", TensorType::kI32, {kColumns * bits / 32, kRows}, {}};
      stored.qzeros = {"z", TensorType::kI32, {groups, kRows * bits / 32}, {}};
      stored.scales = {"s", TensorType::kF16, {groups, kRows}, {}};
      stored.g_idx = {"g", TensorType::kI32, {kColumns}, {}};
      const auto matrix = CheckGptqMatrix(
          stored.tensors(), kRows, kColumns,
          {.bits = bits, .group_size = group_size, .symmetric = false},
          /*zeros_minus_one=*/false, "m", "file");
      QSWEEP_ASSERT_OK(matrix);
      std::vector<float> out(codes.size());
      QSWEEP_ASSERT_OK(matrix->Unpack(out));
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t c = 0; c < kColumns; ++c) {
          const auto at = static_cast<size_t>(
              r * groups + group_of_column[static_cast<size_t>(c)]);
          const auto i = static_cast<size_t>(r * kColumns + c);
          ASSERT_EQ(out[i],
                    scales[at] * static_cast<float>(codes[i] - zeros[at]));
        }
      }
    }
  }
}

TEST(GptqMatrix, UnpacksNoOtherColumns_OnceItIsStopped) {
  constexpr int64_t kRows = 8;
  constexpr int64_t kColumns = 96;
  Stored stored{.qweight_bytes = std::string(4 * kRows * kColumns / 8, '\x77'),
                .qzeros_bytes = std::string(4, '\0'),
                .scales_bytes = std::string(2 * kRows, '\x3c')};
  stored.qweight = {"q", TensorType::kI32, {kColumns / 8, kRows}, {}};
  stored.qzeros = {"z", TensorType::kI32, {1, 1}, {}};
  stored.scales = {"s", TensorType::kF16, {1, kRows}, {}};
  const auto matrix =
      CheckGptqMatrix(stored.tensors(), kRows, kColumns,
                      {.bits = 4, .group_size = 0, .symmetric = false},
                      /*zeros_minus_one=*/false, "m", "file");
  QSWEEP_ASSERT_OK(matrix);
  for (int last = 1; last <= 4; ++last) {
    std::vector<float> out(kRows * kColumns, -1.0f);
    int asked = 0;
    EXPECT_EQ(matrix->Unpack(out, [&] { return ++asked == last; }).code(),
              last <= 3 ? absl::StatusCode::kCancelled : absl::StatusCode::kOk);
    EXPECT_EQ(asked, std::min(last, 3));
    EXPECT_EQ(std::count(out.begin(), out.end(), -1.0f),
              (4 - last) * kRows * 32);
  }
}

TEST(PackGptq, PutsThreeBitCodesAcrossWords) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 32; ++i) {
    codes.push_back(static_cast<uint8_t>(i % 8));
  }
  const std::vector<uint8_t> one_row(codes);
  codes.clear();
  for (int row = 0; row < 32; ++row) {
    codes.insert(codes.end(), one_row.begin(), one_row.end());
  }
  const GptqBytes bytes =
      PackGptq({.rows = 32,
                .columns = 32,
                .groups = 1,
                .bits = 3,
                .codes = codes,
                .zeros = std::vector<uint8_t>(32, 4),
                .scales = std::vector<float>(32, 1.0f),
                .group_of_column = std::vector<int32_t>(32)});
  const std::vector<int> wanted(one_row.begin(), one_row.end());
  const std::vector<uint32_t> words = PackBits(wanted, 3);
  ASSERT_EQ(words.size(), 3u);
  std::string expected;
  for (const uint32_t word : words) {
    for (int row = 0; row < 32; ++row) {
      AppendLittleEndian(word, expected);
    }
  }
  EXPECT_EQ(bytes.qweight, expected);
}

}  // namespace
}  // namespace qsweep
