// 20 rounds of random kills and stops under load; `qchaos rounds` runs more of
// them, with any seed.
#include "tests/e2e/kill_rounds.h"

#include <cstdio>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "tests/e2e/soak.h"

namespace qsweep::testing {
namespace {

constexpr uint64_t kSeed = 20261126;
constexpr int kRounds = 20;

int64_t LeasesThatEnded(KillRounds& rounds, const std::string& how) {
  return rounds.cluster().QueryInteger(absl::StrCat(
      "SELECT count(*) FROM attempts_v1 WHERE outcome = '", how, "'"));
}

TEST(KillRounds, LoseNothingAndCountNothingTwice_WhateverIsKilled) {
  KillRounds rounds({.seed = kSeed});
  ASSERT_NO_FATAL_FAILURE(rounds.Start());
  for (int i = 0; i < kRounds && !HasFailure(); ++i) {
    ASSERT_NO_FATAL_FAILURE(rounds.RunRound());
  }
  ASSERT_NO_FATAL_FAILURE(rounds.Finish());
  // It broke what it was meant to break.
  for (const char* how : {"lost", "failed", "preempted"}) {
    EXPECT_GT(LeasesThatEnded(rounds, how), 0) << how;
  }
  EXPECT_GT(LeasesThatEnded(rounds, "committed"), 100);
  std::printf("%s", rounds.Report().c_str());
}

TEST(ChooseFaults, ChoosesTheSame_FromTheSameSeed) {
  Random one(7);
  Random other(7);
  std::set<std::string> kinds;
  for (int round = 0; round < kRounds; ++round) {
    const auto faults = ChooseFaults(one, 8, false);
    const auto again = ChooseFaults(other, 8, false);
    ASSERT_EQ(faults.size(), again.size());
    for (size_t i = 0; i < faults.size(); ++i) {
      EXPECT_EQ(KillFaultText(faults[i]), KillFaultText(again[i]));
      kinds.insert(absl::StrCat(static_cast<int>(faults[i].target), " ",
                                static_cast<int>(faults[i].signal)));
    }
  }
  EXPECT_EQ(kinds.size(), 9u);  // each signal at each kind of process
}

TEST(JudgeSoak, NamesWhatGrows) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  std::vector<ResourceSample> flat;
  for (int minute = 0; minute < 20; ++minute) {
    flat.push_back({.at = absl::Minutes(minute),
                    .rss_bytes = 40 * kMiB,
                    .wal_bytes = 8 * kMiB,
                    .descriptors = 50});
  }
  const SoakVerdict good = JudgeSoak(flat, 38 * kMiB);
  EXPECT_TRUE(good.breaches.empty());
  EXPECT_NEAR(good.rss_mib_per_hour, 0, 1e-6);
  std::vector<ResourceSample> growing = flat;
  for (size_t i = 0; i < growing.size(); ++i) {
    growing[i].rss_bytes += static_cast<int64_t>(i) * 2 * kMiB;
    growing[i].descriptors += static_cast<int64_t>(i);
  }
  growing[10].wal_bytes = 100 * kMiB;
  const SoakVerdict bad = JudgeSoak(growing, 38 * kMiB);
  EXPECT_EQ(bad.breaches.size(), 3u);
  EXPECT_NEAR(bad.rss_mib_per_hour, 120, 1e-6);
  EXPECT_FALSE(JudgeSoak({}, 0).breaches.empty());
}

}  // namespace
}  // namespace qsweep::testing
