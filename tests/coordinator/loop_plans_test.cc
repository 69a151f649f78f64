// Submits that are planned in slices, through the real loop and store.
#include "coordinator/loop_plans.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Answer = std::optional<absl::StatusOr<v1::SubmitJobResponse>>;

constexpr int kUnits = 6;  // 48 measurements
constexpr int64_t kMeasurements = 48;

Settings SlicedSettings() {
  Settings settings;
  settings.max_rows_per_task = 2;
  settings.plan_at_once_tasks = 20;
  settings.plan_slice_tasks = 4;
  return settings;
}

class LongPlansTest : public ::testing::Test {
 protected:
  LongPlansTest() : harness_(SlicedSettings()) { harness_.AddCorpus(kUnits); }

  std::shared_ptr<Answer> Post(const v1::SubmitJobRequest& request) {
    auto answer = std::make_shared<Answer>();
    harness_.loop().Post(Caller{}, request,
                         [answer](absl::StatusOr<v1::SubmitJobResponse> r) {
                           ASSERT_FALSE(answer->has_value());
                           *answer = std::move(r);
                         });
    return answer;
  }
  std::shared_ptr<Answer> Post(const SweepOptions& options) {
    return Post(SweepRequest(options));
  }
  // Of the next step.
  template <typename Request>
  void PostOf(const std::string& job, Request request) {
    request.mutable_job()->set_text(job);
    harness_.loop().Post(Caller{}, request,
                         [](auto r) { QSWEEP_EXPECT_OK(r); });
  }
  static v1::ControlJobRequest RetryRequest() {
    v1::ControlJobRequest retry;
    retry.set_action(v1::JOB_ACTION_RETRY);
    return retry;
  }
  int StepUntil(const std::shared_ptr<Answer>& answer) {
    int steps = 0;
    while (!answer->has_value() && steps < 1000) {
      EXPECT_EQ(harness_.Step(), absl::OkStatus());
      ++steps;
    }
    return steps;
  }
  void Steps(int count) {
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(harness_.Step(), absl::OkStatus());
    }
  }
  const Job& JobOf(int64_t number) {
    return harness_.state().job(JobNumber(number));
  }
  std::shared_ptr<RecordingLink> Attach() {
    auto link = std::make_shared<RecordingLink>();
    v1::WorkerState report;
    *report.mutable_hello() = MakeHello("w", {});
    report.set_credits(2);
    harness_.loop().PostAttach(Caller{}, report, link);
    EXPECT_EQ(harness_.Step(), absl::OkStatus());
    return link;
  }
  // The worker does all it is given.
  void Work(const std::shared_ptr<RecordingLink>& link) {
    std::set<uint64_t> done;
    for (size_t i = 0; i < link->states.size(); ++i) {
      const v1::DesiredState state = link->states[i];
      for (const v1::DesiredLease& lease : state.leases()) {
        if (lease.has_spec() && done.insert(lease.task_id()).second) {
          harness_.Commit(EnvelopeOf(lease.spec(), lease.epoch(),
                                     HonestResult(lease.spec())));
        }
      }
    }
  }

  LoopHarness harness_;
};

TEST_F(LongPlansTest, AnswersWhenThePlanIsOnDisk) {
  const auto answer = Post({.uuid = "a"});
  EXPECT_GT(StepUntil(answer), 5);
  QSWEEP_ASSERT_OK(**answer);
  EXPECT_EQ((**answer)->job_number(), 1u);
  EXPECT_FALSE((**answer)->existed());
  EXPECT_EQ((**answer)->plan().measurements(), uint64_t{kMeasurements});
  EXPECT_EQ((**answer)->plan().tasks(), JobOf(1).tasks.size());
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
  harness_.Crash();
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(harness_.state().job(JobNumber(1)).tasks.size(),
            (**answer)->plan().tasks());
  Work(Attach());
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(1).measurements_done, kMeasurements);
}

TEST_F(LongPlansTest, ServesWorkersBetweenSlices) {
  QSWEEP_ASSERT_OK(harness_.Submit({.uuid = "small", .layer_range = "0"}));
  const auto answer = Post({.uuid = "large", .reuse = v1::REUSE_NEVER});
  Steps(3);
  ASSERT_FALSE(answer->has_value());
  const auto link = Attach();
  ASSERT_FALSE(answer->has_value());
  ASSERT_EQ(link->states.size(), 1u);
  ASSERT_GT(link->states[0].leases_size(), 0);  // of the small job
  StepUntil(answer);
  QSWEEP_ASSERT_OK(**answer);
}

TEST_F(LongPlansTest, GoesOnAfterACrashAtEachStep_AndTheSameUuidWaits) {
  for (int steps = 1; steps < 12; ++steps) {
    const std::string uuid = absl::StrCat("job ", steps);
    const SweepOptions options = {.uuid = uuid, .reuse = v1::REUSE_NEVER};
    Post(options);
    Steps(steps);
    harness_.Crash();
    const auto again = Post(options);
    StepUntil(again);
    QSWEEP_ASSERT_OK(**again);
    EXPECT_EQ((**again)->job_number(), static_cast<uint64_t>(steps));
    EXPECT_THAT(CheckInvariants(harness_.state()), IsEmpty());
    EXPECT_EQ(JobOf(steps).state, v1::JOB_STATE_QUEUED);
    int64_t counted = 0;
    for (const auto& [task, measurements] : JobOf(steps).tasks) {
      counted += measurements;
    }
    EXPECT_EQ(counted, kMeasurements);
    v1::CancelJobRequest cancel;
    cancel.mutable_job()->set_text(absl::StrCat(steps));
    QSWEEP_ASSERT_OK(*harness_.Call<v1::CancelJobResponse>(cancel));
  }
}

// Tasks of another job that are done when the plan breaks off, and one that is
// planned again over their rows.
TEST_F(LongPlansTest, CountsEachMeasurementOnce_WhenItSharesTasksAndGoesOn) {
  QSWEEP_ASSERT_OK(harness_.Submit({.uuid = "small", .layer_range = "0"}));
  Post({.uuid = "large"});
  Steps(3);
  const auto link = Attach();
  ASSERT_GT(link->states[0].leases_size(), 0);
  const v1::DesiredLease lease = link->states[0].leases(0);
  harness_.Commit(
      EnvelopeOf(lease.spec(), lease.epoch(), HonestResult(lease.spec())));
  ASSERT_EQ(JobOf(2).state, v1::JOB_STATE_PLANNING);
  ASSERT_TRUE(
      JobOf(2).tasks.contains(TaskId(static_cast<int64_t>(lease.task_id()))));
  harness_.Crash();
  ASSERT_EQ(JobOf(2).state, v1::JOB_STATE_PLANNING);
  const auto again = Post({.uuid = "large"});
  StepUntil(again);
  QSWEEP_ASSERT_OK(**again);
  EXPECT_THAT(CheckInvariants(harness_.state()), IsEmpty());
  EXPECT_GT(JobOf(2).measurements_done, 0);
  Work(Attach());
  EXPECT_EQ(JobOf(2).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(2).measurements_done, kMeasurements);
}

TEST_F(LongPlansTest, FinishesAPlanWhoseClientIsGone) {
  Post({.uuid = "a"});
  Steps(3);
  harness_.Crash();
  ASSERT_EQ(JobOf(1).state, v1::JOB_STATE_PLANNING);
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
}

TEST_F(LongPlansTest, AnswersEachCallerOfOneUuid) {
  const auto first = Post({.uuid = "a"});
  Steps(2);
  const auto second = Post({.uuid = "a"});
  const auto other = Post({.uuid = "a", .layer_range = "0"});
  StepUntil(first);
  ASSERT_TRUE(second->has_value() && other->has_value());
  EXPECT_FALSE((**first)->existed());
  EXPECT_TRUE((**second)->existed());
  EXPECT_EQ((**second)->job_number(), 1u);
  EXPECT_EQ(CodeOf(**other), "QS4022");
}

TEST_F(LongPlansTest, StoresNothing_WhenTheSubmitIsRefusedOrDry) {
  v1::SubmitJobRequest dry = SweepRequest({.uuid = "dry"});
  dry.set_dry_run(true);
  const auto planned = Post(dry);
  StepUntil(planned);
  EXPECT_EQ((**planned)->job_number(), 0u);
  EXPECT_GE((**planned)->plan().tasks(), 24u);
  const auto refused = Post({.uuid = "r", .reuse = v1::REUSE_REQUIRE});
  StepUntil(refused);
  EXPECT_EQ(CodeOf(**refused), "QS4043");
  EXPECT_THAT(harness_.state().jobs(), IsEmpty());
  EXPECT_TRUE(harness_.state().tasks().empty());
}

TEST_F(LongPlansTest, IsCancelledHalfWay) {
  const auto answer = Post({.uuid = "a"});
  Steps(4);
  ASSERT_EQ(JobOf(1).state, v1::JOB_STATE_PLANNING);
  v1::ControlJobRequest pause;
  pause.mutable_job()->set_text("1");
  pause.set_action(v1::JOB_ACTION_PAUSE);
  EXPECT_EQ(CodeOf(*harness_.Call<v1::ControlJobResponse>(pause)), "QS4023");
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  QSWEEP_ASSERT_OK(*harness_.Call<v1::CancelJobResponse>(cancel));
  StepUntil(answer);
  QSWEEP_ASSERT_OK(**answer);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(harness_.state().num_tasks(v1::TASK_STATE_READY), 0);
  EXPECT_THAT(CheckInvariants(harness_.state()), IsEmpty());
}

TEST_F(LongPlansTest, TellsWatchersOfTheJobButNotOfHalfAPlan) {
  const auto answer = Post({.uuid = "a"});
  Steps(4);
  v1::WatchJobRequest watch;
  watch.mutable_job()->set_text("1");
  const auto sink = std::make_shared<RecordingSink>();
  harness_.loop().PostWatch(Caller{}, watch, sink);
  StepUntil(answer);
  EXPECT_THAT(sink->Kinds(),
              ElementsAre("snapshot", "job_submitted", "job_queued"));
  EXPECT_EQ(sink->events[0].snapshot().tasks_total(), 0u);
}

TEST_F(LongPlansTest, ShowsNobodyHalfAPlan) {
  Post({.uuid = "a"});
  Steps(6);
  ASSERT_FALSE(JobOf(1).tasks.empty());
  v1::ExplainTaskRequest explain;
  explain.set_task_id(1);
  EXPECT_EQ(CodeOf(*harness_.Call<v1::ExplainTaskResponse>(explain)), "QS4021");
  EXPECT_EQ((*harness_.Call<v1::GetStatusResponse>(v1::GetStatusRequest()))
                ->tasks_ready(),
            0u);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_PLANNING);
}

TEST_F(LongPlansTest, RefusesMore_WhenManyWait) {
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 17; ++i) {
    answers.push_back(Post({.uuid = absl::StrCat("job ", i)}));
  }
  Steps(1);
  EXPECT_FALSE(answers[15]->has_value());
  ASSERT_TRUE(answers[16]->has_value());
  EXPECT_EQ(CodeOf(**answers[16]), "QS4040");
}

TEST_F(LongPlansTest, SaysUnavailable_WhenASliceCannotBeStored) {
  const auto answer = Post({.uuid = "a"});
  Steps(4);
  harness_.store().FailNext(FaultyStore::Fault::kBeforeCommit,
                            absl::UnavailableError("lost"));
  StepUntil(answer);
  EXPECT_EQ((*answer)->status().code(), absl::StatusCode::kUnavailable);
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);  // it went on by itself
}

TEST_F(LongPlansTest, CancelsTheJob_WhenASliceCanNeverBeStored) {
  const auto answer = Post({.uuid = "a"});
  Steps(4);
  harness_.store().FailNext(FaultyStore::Fault::kBeforeCommit,
                            absl::InternalError("a row too many"));
  StepUntil(answer);
  EXPECT_EQ((*answer)->status().code(), absl::StatusCode::kInternal);
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(JobOf(1).reason, "its plan could not be stored: a row too many");
  EXPECT_THAT(CheckInvariants(harness_.state()), IsEmpty());
}

TEST_F(LongPlansTest, EndsTheCoordinator_WhenNothingNewCanBeStored) {
  Post({.uuid = "a"});
  Steps(4);
  absl::Status last;
  for (int i = 0; i < 30 && last.ok(); ++i) {
    if (i % 2 == 0) {  // what a load leaves is stored each time
      harness_.store().FailNext(FaultyStore::Fault::kBeforeCommit,
                                absl::UnavailableError("lost"));
    }
    last = harness_.Step();
  }
  EXPECT_EQ(last.code(), absl::StatusCode::kUnavailable);
}

TEST_F(LongPlansTest, BeginsAnew_WhenCancelAndRetryComeTogether) {
  const auto answer = Post({.uuid = "a"});
  Steps(6);
  ASSERT_FALSE(JobOf(1).tasks.empty());
  PostOf("1", v1::CancelJobRequest());
  PostOf("1", RetryRequest());
  Steps(1);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_PLANNING);
  StepUntil(answer);
  QSWEEP_ASSERT_OK(**answer);
  Work(Attach());
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(1).measurements_done, kMeasurements);
}

TEST_F(LongPlansTest, DropsAPlanBehindAnother_WhenItsJobIsDeleted) {
  Post({.uuid = "a"});
  StepUntil(Post({.uuid = "b", .layer_range = "0-1"}));
  PostOf("1", v1::CancelJobRequest());
  PostOf("2", v1::CancelJobRequest());
  QSWEEP_ASSERT_OK(harness_.Submit({.uuid = "c", .layer_range = "0"}));
  PostOf("1", RetryRequest());
  PostOf("2", RetryRequest());
  Steps(2);
  ASSERT_EQ(JobOf(2).state, v1::JOB_STATE_PLANNING);
  PostOf("2", v1::CancelJobRequest());
  QSWEEP_EXPECT_OK(
      *harness_.Call<v1::CollectGarbageResponse>(v1::CollectGarbageRequest()));
  EXPECT_EQ(harness_.state().FindJob(JobNumber(2)), nullptr);
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
}

TEST_F(LongPlansTest, KeepsToTheLimit_WhenARetryIsPlanned) {
  StepUntil(Post({.uuid = "a"}));
  Settings settings = SlicedSettings();
  settings.max_tasks_per_job = 10;
  harness_.Crash(settings);
  PostOf("1", v1::CancelJobRequest());
  PostOf("1", RetryRequest());
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_CANCELLED);
  EXPECT_THAT(JobOf(1).reason, ::testing::HasSubstr("more than 10"));
}

TEST_F(LongPlansTest, PlansACancelledJobAgain) {
  StepUntil(Post({.uuid = "a"}));
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  QSWEEP_ASSERT_OK(*harness_.Call<v1::CancelJobResponse>(cancel));
  v1::ControlJobRequest retry;
  retry.mutable_job()->set_text("1");
  retry.set_action(v1::JOB_ACTION_RETRY);
  QSWEEP_ASSERT_OK(*harness_.Call<v1::ControlJobResponse>(retry));
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_PLANNING);
  harness_.Crash();
  Steps(20);
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
  Work(Attach());
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(1).measurements_done, kMeasurements);
}

// A retry whose answer was lost comes twice. Meanwhile another job measures.
TEST_F(LongPlansTest, TakesUpNothingThatAnotherJobBrings_WhenARetryIsRepeated) {
  StepUntil(Post({.uuid = "a"}));
  PostOf("1", v1::CancelJobRequest());
  Steps(20);
  StepUntil(Post({.uuid = "b", .layer_range = "1"}));
  PostOf("1", RetryRequest());
  PostOf("1", RetryRequest());
  for (int i = 0; i < 20; ++i) {
    Steps(1);
    EXPECT_THAT(CheckInvariants(harness_.state()), IsEmpty());
  }
  EXPECT_EQ(JobOf(1).state, v1::JOB_STATE_QUEUED);
}

}  // namespace
}  // namespace qsweep::testing
