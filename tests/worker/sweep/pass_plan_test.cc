#include "worker/sweep/pass_plan.h"

#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qsweep {
namespace {

using ::testing::ElementsAre;

using Passes = std::vector<std::vector<size_t>>;

// Three states, 10 bytes a row each, that are used more and more.
constexpr int64_t kRowBytes = 10;
const std::vector<int64_t> kUses = {1, 2, 6};
const std::vector<int64_t> kDocuments = {4, 0, 3, 5};  // rows; one is skipped

PassLimits Limits(int64_t memory, int64_t file_room, int64_t weights) {
  return {.memory = memory,
          .file_room = file_room,
          .state_row = kRowBytes,
          .weights = weights};
}

TEST(PlanPasses, TakesAllAtOnceInMemory_WhenItFits) {
  const auto plan = PlanPasses(kDocuments, kUses, Limits(360, 1000, 1));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->passes, Passes({{0, 2, 3}}));
  EXPECT_THAT(plan->in_file, ElementsAre(false, false, false));
  EXPECT_EQ(plan->file_bytes, 0);
}

TEST(PlanPasses, CutsDocuments_WhenWeightsAreCheaperThanAFile) {
  // One byte less: another reading of the weights, or the least used state of
  // 12 rows in a file, which moves 120 bytes.
  const auto plan = PlanPasses(kDocuments, kUses, Limits(359, 1000, 119));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->passes, Passes({{0, 2}, {3}}));
  EXPECT_EQ(plan->file_bytes, 0);
}

TEST(PlanPasses, PutsTheLeastUsedStatesIntoAFile_WhenWeightsAreDearer) {
  const auto plan = PlanPasses(kDocuments, kUses, Limits(359, 1000, 121));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->passes, Passes({{0, 2, 3}}));
  EXPECT_THAT(plan->in_file, ElementsAre(true, false, false));
  EXPECT_EQ(plan->file_bytes, 120);
}

TEST(PlanPasses, UsesAFileAndPasses_WhenOneDocumentIsTooLargeForMemory) {
  // 5 rows of two states fit, not of three.
  const auto plan = PlanPasses(kDocuments, kUses, Limits(100, 50, 0));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->passes, Passes({{0}, {2}, {3}}));
  EXPECT_THAT(plan->in_file, ElementsAre(true, false, false));
  EXPECT_EQ(plan->file_bytes, 50);
}

TEST(PlanPasses, KeepsEverythingInAFile_WhenMemoryHoldsNoState) {
  const auto plan = PlanPasses(kDocuments, kUses, Limits(0, 360, 1'000'000));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->passes, Passes({{0, 2, 3}}));
  EXPECT_THAT(plan->in_file, ElementsAre(true, true, true));
}

TEST(PlanPasses, FindsNone_WhenMemoryAndFileAreTooSmallTogether) {
  EXPECT_FALSE(PlanPasses(kDocuments, kUses, Limits(149, 0, 0)));
  EXPECT_TRUE(PlanPasses(kDocuments, kUses, Limits(150, 0, 0)));
  EXPECT_FALSE(PlanPasses(kDocuments, kUses, Limits(49, 149, 0)));
  EXPECT_FALSE(PlanPasses(kDocuments, kUses, Limits(99, 99, 0)));
  EXPECT_TRUE(PlanPasses(kDocuments, kUses, Limits(100, 50, 0)));
  PassLimits limits = Limits(150, 0, 0);
  limits.other_row = 1;
  EXPECT_FALSE(PlanPasses(kDocuments, kUses, limits));
  limits = Limits(239, 0, 0);
  limits.row_step = 8;
  EXPECT_FALSE(PlanPasses(kDocuments, kUses, limits));
  limits.memory = 240;
  EXPECT_TRUE(PlanPasses(kDocuments, kUses, limits));
}

TEST(PlanPasses, HasNoPass_WhenThereIsNothingToRun) {
  const auto plan =
      PlanPasses(std::vector<int64_t>{0, 0}, kUses, Limits(0, 0, 1));
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->passes.empty());
}

// A model of three layers, one tensor each, and configurations that share
// layers.
struct Sweep {
  ModelDescription model;
  SweepPlan plan;

  explicit Sweep(const std::vector<std::vector<bool>>& quantized) {
    model.layers = 3;
    for (int layer = 0; layer < 3; ++layer) {
      model.tensors.push_back({.layer = layer,
                               .component = Component::kQ,
                               .shape = {2, 5},
                               .stored_bits = 16});
    }
    model.tensors.push_back(
        {.component = Component::kFinalNorm, .shape = {10}, .stored_bits = 32});
    std::vector<Configuration> configurations;
    for (const std::vector<bool>& row : quantized) {
      Configuration configuration;
      for (const bool one : row) {
        configuration.schemes.push_back(one ? std::optional(Scheme())
                                            : std::nullopt);
      }
      configurations.push_back(std::move(configuration));
    }
    plan = PlanSweep(model, configurations);
  }
};

TEST(StateUses, CountsWhatTheExecutorsDo) {
  // Two configurations part in the last layer, a third in the final norm.
  const Sweep sweep({{true, true, true, false},
                     {true, true, false, false},
                     {true, true, true, true}});
  // The first slot: filled, 3 layers read, 3 written, its leaf; the second:
  // written once, its leaf, and the last layer's source is the first; a copy
  // for the third configuration's norm.
  const std::vector<int64_t> uses = StateUses(sweep.plan, /*naive=*/false);
  ASSERT_EQ(uses.size(), 3u);
  EXPECT_EQ(std::accumulate(uses.begin(), uses.end(), int64_t{0}),
            1 + 2 * 4 + 3 + 3 + 2);
  EXPECT_EQ(uses[2], 2);
  EXPECT_EQ(StateUses(sweep.plan, /*naive=*/true).size(), 2u);
}

TEST(WeightBytesPerPass, CountsReadingsAndVariants) {
  const Sweep sweep({{true, true, true, false}, {true, true, false, false}});
  // Three layers of 10 fp16 weights; variants: 1, 1, 2.
  EXPECT_EQ(WeightBytesPerPass(sweep.model, sweep.plan, /*naive=*/false),
            3 * 20 + 4 * 40);
  EXPECT_EQ(WeightBytesPerPass(sweep.model, sweep.plan, /*naive=*/true),
            2 * 3 * (20 + 40));
}

}  // namespace
}  // namespace qsweep
