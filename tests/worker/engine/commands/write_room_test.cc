#include "worker/engine/commands/write_room.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<size_t> Ends(const std::vector<int64_t>& bytes, int threads,
                         int64_t memory_bytes) {
  const auto room = FindWriteRoom(bytes, 0, threads, memory_bytes);
  QSWEEP_EXPECT_OK(room);
  return room.ok() ? room->ends : std::vector<size_t>();
}

TEST(FindWriteRoom, TakesAsManyTensorsAsFit) {
  EXPECT_THAT(Ends({4, 4, 4, 4, 4, 4, 4}, 2, 100), ElementsAre(4, 7));
  EXPECT_THAT(Ends({4, 4, 4, 4, 4, 4, 4}, 2, 12), ElementsAre(3, 6, 7));
  EXPECT_THAT(Ends({4, 4, 4}, 8, 7), ElementsAre(1, 2, 3));
  EXPECT_THAT(Ends({9, 1, 1, 9, 1, 8, 1}, 8, 10), ElementsAre(2, 4, 7));
  EXPECT_THAT(Ends({9, 9}, 1, 9), ElementsAre(1, 2));
  EXPECT_THAT(Ends({}, 4, 0), IsEmpty());
}

TEST(FindWriteRoom, CountsOnAsManyThreadsAsFit) {
  const auto threads = [](int64_t memory_bytes) {
    return FindWriteRoom(std::vector<int64_t>{4}, 10, 4, memory_bytes)
        ->counting_threads;
  };
  EXPECT_EQ(threads(10), 1);
  EXPECT_EQ(threads(29), 2);
  EXPECT_EQ(threads(1000), 4);
  EXPECT_EQ(FindWriteRoom({}, 0, 4, 1000)->counting_threads, 1);
}

TEST(FindWriteRoom, SaysTheLeastThatWorks) {
  const std::vector<int64_t> bytes = {5, int64_t{3} << 20, 7};
  for (const int64_t counting : {int64_t{0}, int64_t{4} << 20}) {
    const int64_t least = std::max(bytes[1], counting);
    const absl::Status status =
        FindWriteRoom(bytes, counting, 2, least - 1).status();
    EXPECT_EQ(CodeOf(status), "QS5006");
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr("The least that works is " + std::to_string(least) + " "));
    QSWEEP_EXPECT_OK(FindWriteRoom(bytes, counting, 2, least));
  }
}

TEST(WriteBytes, CountsTheTensorAndWhatItsSchemeTakes) {
  ModelDescription model{.layers = 1};
  for (const Component component : {Component::kQ, Component::kDown}) {
    model.tensors.push_back({.name = "model.layers.0.x.weight",
                             .layer = 0,
                             .component = component,
                             .shape = {64, 128},
                             .stored_bits = 16});
  }
  constexpr int64_t kCount = 64 * 128;
  const auto bytes = [&](const std::string& quantizer,
                         const std::string& layer_set, bool pack) {
    const auto configuration =
        ParseConfiguration(model, quantizer, layer_set, Compute::kFp32);
    QSWEEP_EXPECT_OK(configuration);
    return WriteBytes(model, *configuration, pack);
  };
  const int64_t plain = 4 * kCount;
  EXPECT_THAT(bytes("rtn:group=32", "down", false), ElementsAre(plain, plain));
  // A bit for each, and half of the two.
  EXPECT_THAT(bytes("rtn:group=32", "down+top50%", false),
              ElementsAre(plain + kCount / 8 + 8 + 4 * kCount, plain));
  // fp32 and int16 of the quantizer with its scales, then its codes with a
  // scale and a zero point each, and of each column a group and a scale.
  EXPECT_THAT(bytes("rtn:group=32,scale=fp16", "q", true),
              ElementsAre(plain, plain + 6 * kCount + 4 * kCount / 32 + kCount +
                                     5 * kCount / 32 + 8 * 128));
  // Codes of a file, then words twice.
  EXPECT_THAT(
      bytes("gptq:group=32,scale=fp16,texts=0123456789abcdef", "q", true),
      ElementsAre(plain, plain + kCount + 5 * kCount / 32 + 8 * 128 + kCount));
  // Scratch of a method.
  const std::vector<int64_t> hqq = bytes("hqq:group=64", "none", false);
  EXPECT_GT(hqq[0], plain);
  EXPECT_THAT(hqq, ElementsAreArray({hqq[0], hqq[0]}));
}

}  // namespace
}  // namespace qsweep
