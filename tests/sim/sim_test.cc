// The seeds of every test run. More of them: qsim --seeds A:B.
#include <algorithm>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/log.h"
#include "tests/sim/run_seeds.h"
#include "tests/sim/world.h"
#include "tests/support/temp_dir.h"

namespace qsweep::sim {
namespace {

using ::testing::IsEmpty;

constexpr uint64_t kCalmSeeds = QSWEEP_SIM_SEEDS < 100 ? 3 : 20;

TEST(Simulation, FindsNoViolation_WhateverBreaks) {
  SilenceLog();
  const SeedsOptions options = {
      .first = 1, .last = QSWEEP_SIM_SEEDS, .tasks = 200};
  const SeedsResult result = RunSeeds(options);
  std::cout << FormatReport(options, result);
  EXPECT_THAT(result.violations, IsEmpty());
  EXPECT_THAT(TooSeldom(result), IsEmpty());
}

// Announced or not: a worker that vanishes costs the task it runs.
TEST(Simulation, RunsOneTaskAgainForEachPreemptedWorker) {
  SilenceLog();
  int64_t again = 0;
  for (uint64_t seed = 1; seed <= kCalmSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const SeedResult result = World({.seed = seed,
                                     .tasks = 200,
                                     .faults = false,
                                     .workers = 10,
                                     .preempted = 3})
                                  .Run();
    EXPECT_THAT(result.problems, IsEmpty());
    const int64_t runs = result.counts.checks.of("run begun in an engine");
    const int64_t done = result.counts.transitions.of("LEASED -> DONE");
    EXPECT_GE(done, 200);
    EXPECT_LE(runs - done, 3);
    again += runs - done;
  }
  EXPECT_GT(again, 0);
}

// A fetch takes up to 6 s and a first run 3 s more; a run up to 5.3 s, and a
// worker has a second task fetched ahead. One worker loads a new model first.
TEST(Simulation, GivesEachUserHisShareInTime_WhenNothingBreaks) {
  SilenceLog();
  const absl::Duration most =
      2 * absl::Seconds(9) + 4 * absl::Milliseconds(5300) + absl::Seconds(2);
  absl::Duration longest;
  for (uint64_t seed = 1; seed <= kCalmSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const SeedResult result =
        World({.seed = seed, .tasks = 200, .faults = false}).Run();
    EXPECT_THAT(result.problems, IsEmpty());
    EXPECT_LE(result.below_floor, most);
    longest = std::max(longest, result.below_floor);
  }
  EXPECT_GT(longest, absl::ZeroDuration());
}

TEST(SeedLog, GoesOnWhereARunStopped) {
  SilenceLog();
  const testing::TempDir directory;
  SeedsOptions options = {.first = 1,
                          .last = 60,
                          .tasks = 5,
                          .threads = 1,
                          .jsonl = directory / "log"};
  const SeedsResult whole = RunSeeds(options);
  EXPECT_THAT(whole.violations, IsEmpty());
  EXPECT_EQ(whole.seeds, 60);
  // The second block was cut off in its line.
  std::filesystem::resize_file(options.jsonl,
                               std::filesystem::file_size(options.jsonl) - 9);
  const SeedsResult both = RunSeeds(options);
  EXPECT_EQ(both.seeds, 60);
  EXPECT_EQ(both.counts.checks.all(), whole.counts.checks.all());
  const SeedsResult again = RunSeeds(options);
  EXPECT_EQ(again.seeds, 60);
  EXPECT_EQ(again.counts.checks.all(), both.counts.checks.all());
  options.tasks = 6;
  EXPECT_THAT(RunSeeds(options).violations, ::testing::SizeIs(1));
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
