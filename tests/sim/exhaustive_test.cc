#include "tests/sim/exhaustive.h"

#include <iostream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::sim {
namespace {

TEST(Exhaustive, EndsWellInEveryOrder) {
  for (const ExhaustiveOptions& options :
       {ExhaustiveOptions{.depth = 5, .faults = 0},
        ExhaustiveOptions{.depth = 4, .faults = 1}}) {
    const ExhaustiveResult result = SearchExhaustively(options);
    std::cout << FormatExhaustive(options, result) << "\n";
    EXPECT_THAT(result.problems, ::testing::IsEmpty());
    EXPECT_TRUE(result.complete);
    EXPECT_GT(result.states, 1000);
    EXPECT_GT(result.leaves, 100);
  }
}

}  // namespace
}  // namespace qsweep::sim
