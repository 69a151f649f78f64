// What one caller can cost the others.
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"

namespace qsweep::testing {
namespace {

using Fault = FaultyStore::Fault;

// Whoever can make the store refuse a call must not end the process with it.
TEST(Loop, RefusesACallThatTheStoreCannotTake_AsOftenAsItComes) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  v1::CancelJobRequest request;
  request.mutable_job()->set_text("1");
  for (int i = 0; i < 30; ++i) {
    // With what else is in its batch, then alone.
    for (const char* why : {"batch", "alone"}) {
      harness.store().FailNext(Fault::kBeforeCommit, absl::InternalError(why));
    }
    const auto answer = harness.Call<v1::CancelJobResponse>(request);
    QSWEEP_ASSERT_OK(harness.last_step());
    EXPECT_EQ(answer->status().message(), "alone");
  }
  QSWEEP_EXPECT_OK(*harness.Call<v1::CancelJobResponse>(request));
}

TEST(Loop, EndsWithAnError_WhenNoCallIsToBlame) {
  LoopHarness harness;
  harness.AddCorpus(3);
  absl::Status end;
  int steps = 0;
  while (end.ok() && ++steps < 30) {
    // Each call is stored alone, and the next batch fails again.
    harness.store().FailNext(Fault::kBeforeCommit,
                             absl::InternalError("batch"));
    QSWEEP_EXPECT_OK(harness.Submit({.uuid = absl::StrCat("job ", steps)}));
    end = harness.last_step();
  }
  EXPECT_EQ(end.message(), "batch");
  EXPECT_EQ(steps, 11);
}

TEST(Loop, GrantsNoMoreInAStepThanItTakesCalls_AndGoesOnWithTheNextWorker) {
  Settings settings;
  settings.batch_requests_max = 3;
  settings.queue_high_water = 4;
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  for (const char* worker : {"a", "b", "c", "d", "e"}) {
    Attach(harness, worker);
  }
  for (int i = 0; i < 8; ++i) {  // of another model, and one task, each
    harness.loop().Post(
        SweepRequest({.uuid = absl::StrCat("job ", i), .layers = 2 + i}),
        [](const auto& r) { QSWEEP_EXPECT_OK(r); });
  }
  QSWEEP_ASSERT_OK(harness.Step());  // five calls wait: no lease
  std::vector<size_t> leases;
  for (int i = 0; i < 3; ++i) {
    QSWEEP_ASSERT_OK(harness.Step());
    leases.push_back(harness.state().leased_tasks().size());
    EXPECT_EQ(harness.loop().NextDeadline() == harness.clock().SteadyNow(),
              i < 1);
  }
  EXPECT_EQ(leases, (std::vector<size_t>{3, 5, 5}));
}

}  // namespace
}  // namespace qsweep::testing
