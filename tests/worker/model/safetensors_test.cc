#include "worker/model/safetensors.h"

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
using ::testing::HasSubstr;
using testing::HintOf;
using ::testing::Pair;
using testing::SafetensorsBytes;
using testing::SafetensorsWriter;

absl::StatusOr<std::vector<StoredTensor>> Parse(const std::string& bytes) {
  return ParseSafetensors(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
      "m.safetensors");
}

std::string SmallFile() {
  SafetensorsWriter writer;
  writer.Add("b", {2, 2}, "F32", FloatBytes({1, 2, 3, 4}));
  writer.Add("a", {3}, "BF16", std::string("\x80\x3f\x00\x40\x40\x40", 6));
  writer.Add("empty", {0, 4}, "F16", "");
  return writer.Bytes();
}

TEST(ParseSafetensors, ReadsTensors_InOrderOfName) {
  const std::string bytes = SmallFile();
  const auto tensors = Parse(bytes);
  QSWEEP_ASSERT_OK(tensors);
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a");
  std::vector<float> values(3);
  Dequantize((*tensors)[0].type, (*tensors)[0].data, values);
  EXPECT_THAT(values, ElementsAre(1, 2, 3));
  EXPECT_THAT((*tensors)[1].shape, ElementsAre(2, 2));
}

TEST(ParseSafetensors, SaysTruncated_WhereverTheFileEnds) {
  const std::string bytes = SmallFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto tensors = Parse(bytes.substr(0, size));
    ASSERT_EQ(CodeOf(tensors), "QS3002") << size;
    ASSERT_EQ(FieldOf(tensors), "m.safetensors");
  }
}

TEST(ParseSafetensors, NeverCrashes_WhenAnyByteOfTheHeaderIsDamaged) {
  const std::string bytes = SmallFile();
  int num_refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int value : {0x00, 0x30, 0x39, 0x7f, 0xff}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(value);
      num_refused += Parse(damaged).ok() ? 0 : 1;
    }
  }
  EXPECT_GT(num_refused, 100);
}

TEST(ParseSafetensors, RefusesHeaders_ThatContradictThemselves) {
  struct Case {
    const char* name;
    const char* header;
    const char* code;
    const char* text;
  };
  const std::string data(16, '\0');
  for (
      const Case& c : {
          Case{"not JSON", "{", "QS3003", "JSON"},
          Case{"a list", "[]", "QS3003", "JSON"},
          Case{"no dtype", R"({"x":{"shape":[4],"data_offsets":[0,16]}})",
               "QS3003", "'x'"},
          Case{
              "dtype",
              R"({"x":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}})",
              "QS3009", "F8_E4M3"},
          Case{"twice",
               R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                    "x":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
               "QS3003", "twice"},
          Case{"shape and offsets",
               R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}})",
               "QS3003", "'x'"},
          Case{"negative size",
               R"({"x":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})",
               "QS3003", "'x'"},
          Case{"backwards",
               R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})",
               "QS3003", "'x'"},
          Case{"size overflows",
               R"({"x":{"dtype":"F32","shape":[4611686018427387904,4],
                         "data_offsets":[0,16]}})",
               "QS3003", "'x'"},
          Case{"outside",
               R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[4,20]}})",
               "QS3002", "'x'"},
          Case{"overlap",
               R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
                    "y":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
               "QS3003", "overlap"},
          Case{"hole",
               R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
               "QS3003", "cover 8 of 16"},
      }) {
    SCOPED_TRACE(c.name);
    const auto tensors = Parse(SafetensorsBytes(c.header, data));
    EXPECT_EQ(CodeOf(tensors), c.code);
    EXPECT_EQ(FieldOf(tensors), "m.safetensors");
    EXPECT_FALSE(HintOf(tensors).empty());
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(c.text));
  }
}

TEST(ParseSafetensors, RefusesAHeader_OfMoreThan100Megabytes) {
  std::string bytes;
  testing::AppendLittleEndian(uint64_t{100'000'001}, bytes);
  EXPECT_EQ(CodeOf(Parse(bytes + "{}")), "QS3003");
}

TEST(ParseSafetensorsIndex, MapsTensorsToFiles) {
  const auto files = ParseSafetensorsIndex(
      R"({"metadata":{},"weight_map":{"x":"1.safetensors","y":"2.safetensors"}})",
      "i.json");
  QSWEEP_ASSERT_OK(files);
  EXPECT_THAT(*files, ElementsAre(Pair("x", "1.safetensors"),
                                  Pair("y", "2.safetensors")));
}

TEST(ParseSafetensorsIndex, RefusesFiles_OutsideTheDirectory) {
  for (const char* json :
       {"", "{}", R"({"weight_map":7})", R"({"weight_map":{"x":"../x"}})",
        R"({"weight_map":{"x":"/etc/x"}})", R"({"weight_map":{"x":3}})",
        R"({"weight_map":{"x":"a","x":"b"}})"}) {
    EXPECT_EQ(CodeOf(ParseSafetensorsIndex(json, "i.json")), "QS3003") << json;
  }
}

}  // namespace
}  // namespace qsweep
