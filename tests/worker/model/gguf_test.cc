#include "worker/model/gguf.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/model_files.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using testing::FloatBytes;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::HintOf;

absl::StatusOr<Gguf> ParseText(const std::string& bytes) {
  return ParseGguf(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "m.gguf");
}

GgufWriter SmallGguf() {
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint("llama.block_count", 2);
  writer.AddFloat("llama.rope.freq_base", 1e4f);
  writer.AddBool("flag", true);
  writer.AddStrings("tokens", {"a", "bc"});
  writer.AddInts("types", {1, -3});
  writer.AddTensor(
      {.name = "x", .shape = {2, 3}, .data = FloatBytes({1, 2, 3, 4, 5, 6})});
  writer.AddTensor(
      {.name = "y", .shape = {32}, .type = 8, .data = std::string(34, 'q')});
  return writer;
}

TEST(ParseGguf, ReadsMetadataAndTensors) {
  const std::string bytes = SmallGguf().Bytes();
  const auto gguf = ParseText(bytes);
  QSWEEP_ASSERT_OK(gguf);
  const auto& metadata = gguf->metadata;
  EXPECT_EQ(std::get<std::string>(metadata.at("general.architecture")),
            "llama");
  EXPECT_EQ(std::get<uint64_t>(metadata.at("llama.block_count")), 2u);
  EXPECT_EQ(std::get<double>(metadata.at("llama.rope.freq_base")), 1e4);
  EXPECT_TRUE(std::get<bool>(metadata.at("flag")));
  EXPECT_THAT(std::get<std::vector<std::string>>(metadata.at("tokens")),
              ElementsAre("a", "bc"));
  EXPECT_THAT(std::get<std::vector<int64_t>>(metadata.at("types")),
              ElementsAre(1, -3));
  ASSERT_EQ(gguf->tensors.size(), 2u);
  EXPECT_THAT(gguf->tensors[0].shape, ElementsAre(2, 3));  // turned round
  std::vector<float> values(6);
  Dequantize(gguf->tensors[0].type, gguf->tensors[0].data, values);
  EXPECT_THAT(values, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(gguf->tensors[1].type, TensorType::kQ8_0);
  EXPECT_EQ(gguf->tensors[1].data.size(), 34u);
}

TEST(ParseGguf, SaysTruncated_WhereverTheFileEnds) {
  const std::string bytes = SmallGguf().Bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto gguf = ParseText(bytes.substr(0, size));
    ASSERT_EQ(CodeOf(gguf), "QS3002") << size;
    ASSERT_EQ(FieldOf(gguf), "m.gguf");
  }
}

TEST(ParseGguf, NeverCrashes_WhenAnyByteOfTheHeaderIsDamaged) {
  const std::string bytes = SmallGguf().Bytes();
  int num_refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int value : {0x00, 0x7f, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(value);
      const auto gguf = ParseText(damaged);
      if (gguf.ok()) {
        for (const StoredTensor& tensor : gguf->tensors) {
          std::vector<float> out(static_cast<size_t>(tensor.num_elements()));
          Dequantize(tensor.type, tensor.data, out);  // inside the file
        }
      }
      num_refused += gguf.ok() ? 0 : 1;
    }
  }
  EXPECT_GT(num_refused, 100);
}

TEST(ParseGguf, RefusesHeaders_ThatContradictThemselves) {
  struct Case {
    const char* name;
    void (*damage)(GgufWriter&);
    const char* code;
    const char* text;
  };
  static constexpr uint64_t kHuge = uint64_t{1} << 60;
  const auto tensor = [](std::vector<uint64_t> shape, uint32_t type) {
    return GgufWriter::Tensor{.name = "z",
                              .shape = std::move(shape),
                              .type = type,
                              .data = std::string(64, '\0')};
  };
  static const auto kTensor = tensor;
  for (const Case& c : {
           Case{"version 1", [](GgufWriter& w) { w.version = 1; }, "QS3003",
                "says 1"},
           Case{"tensors", [](GgufWriter& w) { w.num_tensors = kHuge; },
                "QS3003", "claims"},
           Case{"metadata", [](GgufWriter& w) { w.num_metadata = kHuge; },
                "QS3003", "claims"},
           Case{"more metadata than there is",
                [](GgufWriter& w) { w.num_metadata = 100000; }, "QS3002", ""},
           Case{"more tensors than there are",
                [](GgufWriter& w) { w.num_tensors = 100000; }, "QS3002", ""},
           Case{"key twice", [](GgufWriter& w) { w.AddUint("flag", 1); },
                "QS3003", "'flag'"},
           Case{"tensor twice",
                [](GgufWriter& w) {
                  w.AddTensor(
                      {.name = "x", .shape = {1}, .data = FloatBytes({1})});
                },
                "QS3003", "'x'"},
           Case{"outside",
                [](GgufWriter& w) {
                  auto t = kTensor({16}, 0);
                  t.offset = 1 << 20;
                  w.AddTensor(t);
                },
                "QS3002", "'z'"},
           Case{"offset that wraps round",
                [](GgufWriter& w) {
                  auto t = kTensor({16}, 0);
                  t.offset = ~uint64_t{31};
                  w.AddTensor(t);
                },
                "QS3002", "'z'"},
           Case{"overlap",
                [](GgufWriter& w) {
                  auto t = kTensor({16}, 0);
                  t.offset = 0;
                  w.AddTensor(t);
                },
                "QS3003", "overlap"},
           Case{"not aligned",
                [](GgufWriter& w) {
                  auto t = kTensor({16}, 0);
                  t.offset = 100;
                  w.AddTensor(t);
                },
                "QS3003", "multiple of 32"},
           Case{"alignment",
                [](GgufWriter& w) { w.AddUint("general.alignment", 0); },
                "QS3003", "alignment"},
           Case{"no whole blocks",
                [](GgufWriter& w) { w.AddTensor(kTensor({33}, 8)); }, "QS3003",
                "'z'"},
           Case{"size overflows",
                [](GgufWriter& w) {
                  w.AddTensor(kTensor({kHuge, kHuge}, 0));
                },
                "QS3003", "'z'"},
           Case{"zero dimension",
                [](GgufWriter& w) {
                  w.AddTensor(kTensor({0, 4}, 0));
                },
                "QS3003", "'z'"},
           Case{"five dimensions",
                [](GgufWriter& w) {
                  w.AddTensor(kTensor({1, 1, 1, 1, 1}, 0));
                },
                "QS3003", "5 dimensions"},
           Case{"unsupported type",
                [](GgufWriter& w) { w.AddTensor(kTensor({256}, 10)); },
                "QS3009", "'z' is stored as Q2_K"},
       }) {
    SCOPED_TRACE(c.name);
    GgufWriter writer = SmallGguf();
    c.damage(writer);
    const auto gguf = ParseText(writer.Bytes());
    EXPECT_EQ(CodeOf(gguf), c.code);
    EXPECT_EQ(FieldOf(gguf), "m.gguf");
    EXPECT_FALSE(HintOf(gguf).empty());
    EXPECT_THAT(std::string(gguf.status().message()), HasSubstr(c.text));
  }
}

TEST(ParseGguf, RefusesAFile_OfAnotherKind) {
  EXPECT_EQ(CodeOf(ParseText("PK\x03\x04 a zip archive, not a model")),
            "QS3003");
}

}  // namespace
}  // namespace qsweep
