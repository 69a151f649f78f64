// The seeds of every test run. More of them: qsim --seeds A:B.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/log.h"
#include "tests/sim/run_seeds.h"
#include "tests/sim/world.h"

namespace qsweep::sim {
namespace {

using ::testing::IsEmpty;

TEST(Simulation, FindsNoViolation_WhateverBreaks) {
  SilenceLog();
  const SeedsOptions options = {
      .first = 1, .last = QSWEEP_SIM_SEEDS, .tasks = 200};
  const SeedsResult result = RunSeeds(options);
  std::cout << FormatReport(options, result);
  EXPECT_THAT(result.violations, IsEmpty());
  EXPECT_THAT(TooSeldom(result), IsEmpty());
}

TEST(Simulation, DoesTheSameByteForByte_ForTheSameSeed) {
  SilenceLog();
  for (const uint64_t seed : {3, 4, 5}) {
    std::string first;
    std::string second;
    World({.seed = seed, .tasks = 60, .trace = &first}).Run();
    World({.seed = seed, .tasks = 60, .trace = &second}).Run();
    EXPECT_GT(first.size(), 10'000u);
    EXPECT_EQ(first, second);
  }
}

}  // namespace
}  // namespace qsweep::sim
