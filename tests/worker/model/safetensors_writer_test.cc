#include "worker/model/safetensors_writer.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/model/mapped_file.h"
#include "worker/model/safetensors.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::TempDir;

std::span<const uint8_t> AsBytes(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

TEST(SafetensorsFile, WritesWhatTheReaderReads_InAnyOrder) {
  const TempDir directory;
  const std::string path = directory / "x.safetensors";
  auto file = SafetensorsFile::Create(
      path,
      {{"half", TensorType::kF16, {3}},
       {"a \"quoted\"\n\\name", TensorType::kF32, {1, 2}},
       {"words", TensorType::kI32, {1}},
       {"none", TensorType::kBf16, {0, 4}}},
      {{"format", "pt"}, {"qsweep.quantizer", "rtn:bits=4"}});
  QSWEEP_ASSERT_OK(file);
  QSWEEP_ASSERT_OK((*file)->Write("words", AsBytes("wxyz")));
  QSWEEP_ASSERT_OK((*file)->Write("none", {}));
  QSWEEP_ASSERT_OK((*file)->Write("half", AsBytes("abcdef")));
  QSWEEP_ASSERT_OK((*file)->Write("a \"quoted\"\n\\name", AsBytes("01234567")));
  QSWEEP_ASSERT_OK((*file)->Finish());
  const auto mapped = MappedFile::Open(path);
  QSWEEP_ASSERT_OK(mapped);
  EXPECT_EQ((*file)->size(), static_cast<int64_t>((*mapped)->bytes().size()));
  const auto tensors = ParseSafetensors((*mapped)->bytes(), path);
  QSWEEP_ASSERT_OK(tensors);
  ASSERT_EQ(tensors->size(), 4u);
  const auto expect = [&](size_t i, const char* name, TensorType type,
                          std::vector<int64_t> shape, const char* data) {
    const StoredTensor& tensor = (*tensors)[i];
    EXPECT_EQ(tensor.name, name);
    EXPECT_EQ(tensor.type, type);
    EXPECT_EQ(tensor.shape, shape);
    EXPECT_EQ(std::string(tensor.data.begin(), tensor.data.end()), data);
    // Readers that map the file need whole elements.
    const auto offset = tensor.data.data() - (*mapped)->bytes().data();
    EXPECT_EQ(offset % InfoOf(type).block_bytes, 0);
  };
  expect(0, "a \"quoted\"\n\\name", TensorType::kF32, {1, 2}, "01234567");
  expect(1, "half", TensorType::kF16, {3}, "abcdef");
  expect(2, "none", TensorType::kBf16, {0, 4}, "");
  expect(3, "words", TensorType::kI32, {1}, "wxyz");
}

TEST(SafetensorsFile, DoesNotReplaceAFile) {
  const TempDir directory;
  const std::string path = directory.Write("x", "kept");
  const auto file = SafetensorsFile::Create(path, {}, {});
  EXPECT_EQ(CodeOf(file), "QS7002");
  EXPECT_EQ(FieldOf(file), path);
}

TEST(SafetensorsFile, TellsAtOnce_WhenTheDiskIsTooSmall) {
  const TempDir directory;
  const auto file = SafetensorsFile::Create(
      directory / "x", {{"a", TensorType::kF32, {int64_t{1} << 30, 1 << 28}}},
      {});
  EXPECT_EQ(CodeOf(file), "QS7002");
}

}  // namespace
}  // namespace qsweep
