// How long a task waits after an attempt that counts against it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "common/rpc/retry.h"
#include "coordinator/core/lease.h"
#include "rapidcheck/gtest.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

// The task's attempts so far, each failed or lost, and one that runs.
State Charged(int failed, int lost) {
  StateBuilder builder;
  builder.Job({.max_retries = 1000}).Task().Worker("w");
  for (int i = 0; i < failed + lost; ++i) {
    builder.Lease(1, "w").Apply(
        LeaseEnded{.task = TaskId(1),
                   .epoch = Epoch(i + 1),
                   .end = i < failed ? LeaseEnd::kFailed : LeaseEnd::kLost,
                   .to = v1::TASK_STATE_READY});
  }
  return builder.Lease(1, "w").Build();
}

absl::Duration BackoffAfter(const State& state, LeaseEnd end,
                            const Settings& settings) {
  const auto mutations =
      DecideLeaseEnd(state, TaskId(1), end, "", true, settings, TestNow());
  const auto ended = Only<LeaseEnded>(mutations);
  RC_ASSERT(ended.size() == 1u);
  RC_ASSERT(ended.front().to == v1::TASK_STATE_BACKOFF);
  return ended.front().backoff;
}

// From a microsecond on, doubled so often at most.
rc::Gen<absl::Duration> AnyDuration(int doublings) {
  return rc::gen::map(
      rc::gen::pair(rc::gen::inRange(0, doublings), rc::gen::inRange(0, 1000)),
      [](const std::pair<int, int>& size) {
        return absl::Microseconds(static_cast<int64_t>(
            std::exp2(size.first) * (1 + size.second / 1000.0)));
      });
}

RC_GTEST_PROP(DecideLeaseEnd, BacksOffWithinItsBounds, ()) {
  Settings settings;
  settings.lost_budget = 1'000'000;
  settings.backoff_min = *AnyDuration(24);
  settings.backoff_max = std::max(settings.backoff_min, *AnyDuration(45));
  settings.jitter_seed = *rc::gen::arbitrary<uint64_t>();
  const int failed = *rc::gen::inRange(0, 40);
  const int lost = *rc::gen::inRange(0, 40);
  const LeaseEnd end =
      *rc::gen::element(LeaseEnd::kFailed, LeaseEnd::kStalled, LeaseEnd::kLost);
  RC_LOG() << settings.backoff_min << " to " << settings.backoff_max << "\n";
  const State state = Charged(failed, lost);
  absl::Duration bound = settings.backoff_min;
  for (int i = 0; i < failed + lost && bound < settings.backoff_max; ++i) {
    bound *= 2;
  }
  bound = std::min(bound, settings.backoff_max);

  const absl::Duration chosen = BackoffAfter(state, end, settings);
  RC_ASSERT(chosen == BackoffAfter(state, end, settings));
  // The jitter is full: over many seeds it fills the range, and nothing else.
  constexpr int kSeeds = 256;
  absl::Duration least = absl::InfiniteDuration();
  absl::Duration most;
  absl::Duration sum;
  for (int i = 0; i < kSeeds; ++i) {
    const absl::Duration backoff = BackoffAfter(state, end, settings);
    RC_ASSERT(backoff >= absl::ZeroDuration());
    RC_ASSERT(backoff <= bound);
    RC_ASSERT(backoff % absl::Microseconds(1) == absl::ZeroDuration());
    least = std::min(least, backoff);
    most = std::max(most, backoff);
    sum += backoff;
    ++settings.jitter_seed;
  }
  const absl::Duration truncated = absl::Microseconds(1);
  RC_ASSERT(least <= bound * 0.1);
  RC_ASSERT(most + truncated >= bound * 0.9);
  RC_ASSERT(sum / kSeeds + truncated >= bound * 0.35);
  RC_ASSERT(sum / kSeeds <= bound * 0.65);
}

RC_GTEST_PROP(FullJitterBackoff, StaysWithinItsBounds, ()) {
  const BackoffPolicy policy = {.first = *AnyDuration(24),
                                .max = *AnyDuration(45)};
  const int attempt = *rc::gen::inRange(1, 100);
  Random random(*rc::gen::arbitrary<uint64_t>());
  absl::Duration bound = policy.first;
  for (int i = 1; i < attempt && bound < policy.max; ++i) {
    bound *= 2;
  }
  bound = std::min(bound, policy.max);
  absl::Duration most;
  for (int i = 0; i < 256; ++i) {
    const absl::Duration pause = FullJitterBackoff(policy, attempt, random);
    RC_ASSERT(pause >= absl::ZeroDuration());
    RC_ASSERT(pause <= bound);
    most = std::max(most, pause);
  }
  RC_ASSERT(most >= bound * 0.9);
}

}  // namespace
}  // namespace qsweep::testing
