#include "common/base/random.h"

#include "gtest/gtest.h"

namespace qsweep {
namespace {

// The reference implementation's first values for seed 1234567.
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.Next(), 6457827717110365317u);
  EXPECT_EQ(random.Next(), 3203168211198807973u);
  EXPECT_EQ(random.Next(), 9817491932198370423u);
}

TEST(Random, StaysBelowItsBound_AndReachesEveryValue) {
  Random random(1);
  int seen[3] = {};
  for (int i = 0; i < 300; ++i) {
    const uint64_t value = random.Below(3);
    ASSERT_LT(value, 3u);
    ++seen[value];
  }
  for (const int count : seen) {
    EXPECT_GT(count, 60);
  }
}

TEST(Random, UniformIsInTheHalfOpenUnitInterval) {
  Random random(7);
  for (int i = 0; i < 1000; ++i) {
    const double value = random.Uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
  }
}

}  // namespace
}  // namespace qsweep
