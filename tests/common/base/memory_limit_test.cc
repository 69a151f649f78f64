#include "common/base/memory_limit.h"

#include <optional>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using ::testing::Optional;

TEST(ParseByteSize, ReadsNumbersWithAndWithoutUnits) {
  EXPECT_THAT(ParseByteSize("0"), Optional(0));
  EXPECT_THAT(ParseByteSize("123456789012"), Optional(123456789012));
  EXPECT_THAT(ParseByteSize("100MB"), Optional(100'000'000));
  EXPECT_THAT(ParseByteSize("100 MiB"), Optional(100 << 20));
  EXPECT_THAT(ParseByteSize("1.5gib"), Optional(int64_t{3} << 29));
  EXPECT_THAT(ParseByteSize("2tb"), Optional(2'000'000'000'000));
  EXPECT_THAT(ParseByteSize("7 B"), Optional(7));
}

TEST(ParseByteSize, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "MB", "much", "-1", "1XB", "1e30", "nan", "inf", "100%", "1 000"}) {
    EXPECT_EQ(ParseByteSize(text), std::nullopt) << text;
  }
}

TEST(ParseMemoryLimit, ReadsSizesAndShares) {
  const auto read = [](const char* text) {
    const auto limit = ParseMemoryLimit(text);
    QSWEEP_EXPECT_OK(limit);
    return limit.ok() ? std::pair(limit->bytes, limit->percent)
                      : std::pair(int64_t{-1}, -1);
  };
  EXPECT_EQ(read("0"), std::pair(int64_t{0}, 0));
  EXPECT_EQ(read("2GB"), std::pair(int64_t{2'000'000'000}, 0));
  EXPECT_EQ(read("40%"), std::pair(int64_t{0}, 40));
  EXPECT_EQ(read("100%"), std::pair(int64_t{0}, 100));
  for (const char* text : {"0%", "101%", "4.5%", "%", "-1%", "GB"}) {
    EXPECT_EQ(testing::CodeOf(ParseMemoryLimit(text)), "QS1004") << text;
  }
}

}  // namespace
}  // namespace qsweep
