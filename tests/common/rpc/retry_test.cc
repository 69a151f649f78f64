#include "common/rpc/retry.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qsweep {
namespace {

// Time that passes only by sleeping.
class SleptClock : public Clock {
 public:
  SteadyTime SteadyNow() const override { return now_; }
  absl::Time Now() const override { return absl::UnixEpoch(); }
  Sleeper sleeper() {
    return [this](absl::Duration pause) {
      now_ = now_ + pause;
      pauses_.push_back(pause);
      return true;
    };
  }
  const std::vector<absl::Duration>& pauses() const { return pauses_; }

 private:
  SteadyTime now_;
  std::vector<absl::Duration> pauses_;
};

TEST(FullJitterBackoff, StaysBelowTheDoublingCeiling) {
  const BackoffPolicy policy{absl::Milliseconds(100), absl::Milliseconds(700)};
  Random random(1);
  const int ceilings[] = {100, 200, 400, 700, 700};
  for (int attempt = 1; attempt <= 5; ++attempt) {
    absl::Duration highest;
    for (int i = 0; i < 1000; ++i) {
      const absl::Duration pause = FullJitterBackoff(policy, attempt, random);
      EXPECT_GE(pause, absl::ZeroDuration());
      highest = std::max(highest, pause);
    }
    const absl::Duration ceiling = absl::Milliseconds(ceilings[attempt - 1]);
    EXPECT_LE(highest, ceiling);
    EXPECT_GT(highest, ceiling * 0.9);  // the whole range is used
  }
}

TEST(RetryWhileUnavailable, RepeatsOnlyUnavailable) {
  SleptClock clock;
  Random random(2);
  int calls = 0;
  const absl::Status status = RetryWhileUnavailable(
      {}, SteadyTime::InfiniteFuture(), clock, clock.sleeper(), random, [&] {
        return ++calls < 4 ? absl::UnavailableError("down")
                           : absl::NotFoundError("no such job");
      });
  EXPECT_EQ(status, absl::NotFoundError("no such job"));
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(clock.pauses().size(), 3u);
}

TEST(RetryWhileUnavailable, NeverSleepsPastTheDeadline) {
  SleptClock clock;
  Random random(3);
  const SteadyTime deadline = clock.SteadyNow() + absl::Seconds(2);
  const absl::Status status =
      RetryWhileUnavailable({}, deadline, clock, clock.sleeper(), random,
                            [] { return absl::UnavailableError("down"); });
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_LT(clock.SteadyNow(), deadline);
  EXPECT_GT(clock.pauses().size(), 2u);
}

TEST(RetryWhileUnavailable, StopsAtOnce_WhenTheSleeperSaysSo) {
  const SleptClock clock;
  Random random(4);
  int calls = 0;
  const absl::Status status = RetryWhileUnavailable(
      {}, SteadyTime::InfiniteFuture(), clock,
      [](absl::Duration) { return false; }, random,
      [&] {
        ++calls;
        return absl::UnavailableError("down");
      });
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace qsweep
