// Calls that change or question what is there, through the real loop and store.
#include <algorithm>
#include <memory>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/submit.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::shared_ptr<RecordingLink> AttachWorker(LoopHarness& harness,
                                            const std::string& name) {
  auto link = std::make_shared<RecordingLink>();
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello(name, {});
  report.set_beat_seq(1);
  report.set_credits(2);
  harness.loop().PostAttach(Caller{}, report, link);
  EXPECT_EQ(harness.Step(), absl::OkStatus());
  return link;
}

absl::StatusOr<v1::ControlJobResponse> Control(LoopHarness& harness,
                                               const std::string& job,
                                               v1::JobAction action) {
  v1::ControlJobRequest request;
  request.mutable_job()->set_text(job);
  request.set_action(action);
  return *harness.Call<v1::ControlJobResponse>(request);
}

void Cancel(LoopHarness& harness, const std::string& job) {
  v1::CancelJobRequest request;
  request.mutable_job()->set_text(job);
  QSWEEP_ASSERT_OK(*harness.Call<v1::CancelJobResponse>(request));
}

// The result of the link's newest lease.
v1::CommitOutcome CommitNewest(LoopHarness& harness,
                               const RecordingLink& link) {
  const v1::DesiredState& newest = link.states.back();
  const v1::DesiredLease& lease = newest.leases(newest.leases_size() - 1);
  return harness
      .Commit(
          EnvelopeOf(lease.spec(), lease.epoch(), HonestResult(lease.spec())))
      .outcome();
}

// Gives the newest lease up for good.
void FailNewest(LoopHarness& harness, const RecordingLink& link) {
  const v1::DesiredLease& lease = link.states.back().leases(0);
  v1::ReleaseTaskRequest request;
  request.set_task_id(lease.task_id());
  request.set_epoch(lease.epoch());
  request.set_reason(v1::RELEASE_REASON_FAILED);
  request.mutable_failure()->set_message("bad weights");
  harness.loop().Post(
      Caller{}, request,
      [](absl::StatusOr<v1::ReleaseTaskResponse> r) { QSWEEP_EXPECT_OK(r); });
  EXPECT_EQ(harness.Step(), absl::OkStatus());
}

const Job& JobOf(const LoopHarness& harness, int64_t number) {
  return harness.state().job(JobNumber(number));
}

// All that is durable but the coordinator's epoch.
std::string Durable(const LoopHarness& harness) {
  const std::string dump = harness.state().DumpDurable();
  return dump.substr(dump.find(" job="));
}

class RetryJob : public ::testing::TestWithParam<v1::Reuse> {};

TEST_P(RetryJob, RunsAgainWhatFailed_UnderTheSameNumber) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.reuse = GetParam()}));
  const auto link = AttachWorker(harness, "w");
  FailNewest(harness, *link);
  ASSERT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_FAILED);

  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_RETRY));
  EXPECT_THAT(CheckInvariants(harness.state()), IsEmpty());
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_RUNNING);  // leased at once
  EXPECT_EQ(harness.state().task(TaskId(1)).history->failed, 0);
  EXPECT_EQ(harness.state().task(TaskId(1)).epoch(), Epoch(2));
  harness.Crash();  // what was decided is on disk
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_RUNNING);
  const auto again = AttachWorker(harness, "w");
  EXPECT_EQ(CommitNewest(harness, *again), v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(harness, 1).measurements_done,
            JobOf(harness, 1).measurements_total);
  // Nothing is left to try.
  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_RETRY));
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_SUCCEEDED);
}

INSTANTIATE_TEST_SUITE_P(Reuse, RetryJob,
                         ::testing::Values(v1::REUSE_AUTO, v1::REUSE_NEVER),
                         [](const auto& param_info) {
                           return v1::Reuse_Name(param_info.param);
                         });

TEST(RetryCancelledJob, CountsWhatAnotherJobMeasuredMeanwhile) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "b"}));  // shares the task
  Cancel(harness, "1");
  EXPECT_THAT(JobOf(harness, 1).tasks, IsEmpty());
  const auto link = AttachWorker(harness, "w");
  EXPECT_EQ(CommitNewest(harness, *link), v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(JobOf(harness, 1).measurements_done, 0);

  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_RETRY));
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(JobOf(harness, 1).measurements_done, 24);
  harness.Crash();
  EXPECT_THAT(CheckInvariants(harness.state()), IsEmpty());
  EXPECT_EQ(JobOf(harness, 1).measurements_done, 24);
}

TEST(RetryCancelledJob, TakesItsOwnTaskUpAgain) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  Cancel(harness, "1");
  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_RETRY));
  EXPECT_THAT(CheckInvariants(harness.state()), IsEmpty());
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_QUEUED);
  const auto link = AttachWorker(harness, "w");
  EXPECT_EQ(CommitNewest(harness, *link), v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_SUCCEEDED);
  // A watcher from the start sees it end twice, and each event once.
  auto sink = std::make_shared<RecordingSink>();
  v1::WatchJobRequest watch;
  watch.mutable_job()->set_text("1");
  harness.loop().PostWatch(Caller{}, watch, sink);
  ASSERT_EQ(harness.Step(), absl::OkStatus());
  EXPECT_THAT(
      sink->Kinds(),
      ElementsAre("snapshot", "job_submitted", "job_queued", "task_cancelled",
                  "job_cancelled", "job_reopened", "task_ready", "job_queued",
                  "job_running", "task_leased", "task_done", "job_succeeded"));
}

TEST(ControlJob, SurvivesARestart) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_PAUSE));
  v1::ControlJobRequest priority;
  priority.mutable_job()->set_text("1");
  priority.set_action(v1::JOB_ACTION_PRIORITY);
  priority.set_priority(7);
  QSWEEP_ASSERT_OK(*harness.Call<v1::ControlJobResponse>(priority));
  harness.Crash();
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_PAUSED);
  EXPECT_EQ(JobOf(harness, 1).priority, 7);
  const auto link = AttachWorker(harness, "w");
  EXPECT_EQ(link->states.back().leases_size(), 0);
  QSWEEP_ASSERT_OK(Control(harness, "1", v1::JOB_ACTION_RESUME));
  EXPECT_EQ(link->states.back().leases_size(), 1);
  EXPECT_EQ(CodeOf(Control(harness, "1", v1::JOB_ACTION_UNSPECIFIED)),
            "QS1004");
  EXPECT_EQ(CodeOf(Control(harness, "nine", v1::JOB_ACTION_PAUSE)), "QS4020");
}

Settings SmallSlices() {
  Settings settings;
  settings.max_rows_per_task = 2;
  settings.drop_slice_tasks = 3;
  return settings;
}

// Promise 12 holds from the answer on, wherever the coordinator dies.
TEST(CancelJob, GoesOnAfterACrashAtEachSlice_AndLeasesNothingOfTheJob) {
  for (int slices = 0; slices < 6; ++slices) {
    SCOPED_TRACE(slices);
    LoopHarness harness(SmallSlices());
    harness.AddCorpus(3);
    QSWEEP_ASSERT_OK(harness.Submit({}));
    const int64_t tasks = JobOf(harness, 1).num_tasks(v1::TASK_STATE_READY);
    ASSERT_GT(tasks, 10);
    v1::CancelJobRequest request;
    request.mutable_job()->set_text("1");
    const auto answer = *harness.Call<v1::CancelJobResponse>(request);
    QSWEEP_ASSERT_OK(answer);
    EXPECT_EQ(answer->summary().state(), v1::JOB_STATE_STOPPING);
    for (int i = 0; i < slices; ++i) {
      QSWEEP_ASSERT_OK(harness.Step());
    }
    harness.Crash();
    EXPECT_EQ(JobOf(harness, 1).num_tasks(v1::TASK_STATE_CANCELLED),
              std::min<int64_t>(3 * (slices + 1), tasks));
    const auto link = AttachWorker(harness, "w");
    EXPECT_EQ(link->states.back().leases_size(), 0);
    int steps = 0;
    while (!JobOf(harness, 1).terminal() && ++steps < 20) {
      // The loop does not wait for anything before the next slice.
      EXPECT_EQ(harness.loop().NextDeadline(), harness.clock().SteadyNow());
      QSWEEP_ASSERT_OK(harness.Step());
    }
    EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_CANCELLED);
    EXPECT_EQ(JobOf(harness, 1).num_tasks(v1::TASK_STATE_CANCELLED), tasks);
    EXPECT_THAT(CheckInvariants(harness.state()), IsEmpty());
    EXPECT_EQ(link->states.back().leases_size(), 0);
  }
}

TEST(CancelJob, ServesOthersBetweenSlices) {
  LoopHarness harness(SmallSlices());
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  // Of another model: it shares no task.
  QSWEEP_ASSERT_OK(
      harness.Submit({.uuid = "b", .layers = 3, .layer_range = "0"}));
  Cancel(harness, "1");
  ASSERT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_STOPPING);
  const auto link = AttachWorker(harness, "w");
  EXPECT_GT(link->states.back().leases_size(), 0);
  EXPECT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_STOPPING);
  EXPECT_EQ(JobOf(harness, 2).state, v1::JOB_STATE_RUNNING);
}

// Its job goes on, and may end as if nothing had failed.
TEST(CommitResult, CountsSkippedDocuments_OfAQuarantinedTask) {
  LoopHarness harness(SmallSlices());
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = AttachWorker(harness, "w");
  const v1::DesiredLease lease = link->states.back().leases(0);
  FailNewest(harness, *link);
  ASSERT_EQ(JobOf(harness, 1).num_tasks(v1::TASK_STATE_QUARANTINED), 1);
  v1::TaskResult result = HonestResult(lease.spec());
  for (v1::Measurement& row : *result.mutable_rows()) {
    row.set_status(v1::ROW_STATUS_TOO_LONG);
    row.set_tokens(0);
    row.clear_nll_sum();
    row.clear_nll_fp_sum();
  }
  EXPECT_EQ(
      harness.Commit(EnvelopeOf(lease.spec(), lease.epoch(), result)).outcome(),
      v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(JobOf(harness, 1).num_tasks(v1::TASK_STATE_QUARANTINED), 0);
  EXPECT_EQ(JobOf(harness, 1).documents_skipped, lease.spec().documents_size());
}

TEST(ControlWorker, TellsTheWorkerToDrain_AndRemembersIt) {
  LoopHarness harness;
  const auto link = AttachWorker(harness, "w");
  v1::ControlWorkerRequest request;
  request.set_worker("w");
  request.set_action(v1::WORKER_ACTION_DRAIN);
  request.set_reason("maintenance");
  const auto answer = *harness.Call<v1::ControlWorkerResponse>(request);
  QSWEEP_ASSERT_OK(answer);
  EXPECT_EQ(answer->worker().state(), "draining");
  EXPECT_EQ(answer->worker().note(), "maintenance");
  EXPECT_TRUE(link->states.back().drain());
  harness.Crash();
  EXPECT_TRUE(AttachWorker(harness, "w")->states.back().drain());
  request.set_worker("x");
  EXPECT_EQ(CodeOf(*harness.Call<v1::ControlWorkerResponse>(request)),
            "QS4026");
}

TEST(ExplainTask, AnswersByNumber) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::ExplainTaskRequest request;
  request.set_task_id(1);
  const auto answer = *harness.Call<v1::ExplainTaskResponse>(request);
  QSWEEP_ASSERT_OK(answer);
  ASSERT_EQ(answer->sentences_size(), 1);
  EXPECT_THAT(answer->sentences(0), HasSubstr("no worker is attached"));
  request.set_task_id(9);
  EXPECT_EQ(CodeOf(*harness.Call<v1::ExplainTaskResponse>(request)), "QS4021");
}

// The job that a selector means may be another between the preparation and the
// loop's turn.
TEST(ControlJob, RetriesWithWhatWasPreparedAhead_IfItIsOfTheSameJob) {
  for (const int64_t of : {1, 2}) {
    LoopHarness harness;
    harness.AddCorpus(3);
    QSWEEP_ASSERT_OK(harness.Submit({}));
    v1::CancelJobRequest cancel;
    cancel.mutable_job()->set_text("1");
    QSWEEP_ASSERT_OK(*harness.Call<v1::CancelJobResponse>(cancel));
    auto prepared = std::make_shared<PreparedSubmit>(*PrepareSubmit(
        SweepRequest(),
        std::make_shared<const v1::Corpus>(SmallCorpus(3).corpus)));
    prepared->job = JobNumber(of);
    prepared->num_texts = 7;  // to tell it from one made on the loop
    v1::ControlJobRequest retry;
    retry.mutable_job()->set_text("1");
    retry.set_action(v1::JOB_ACTION_RETRY);
    bool answered = false;
    harness.loop().Post(
        Caller{}, retry,
        [&answered](const auto& response) {
          QSWEEP_EXPECT_OK(response);
          answered = true;
        },
        prepared);
    QSWEEP_ASSERT_OK(harness.Step());
    EXPECT_TRUE(answered);
    EXPECT_EQ(harness.state().job(JobNumber(1)).state, v1::JOB_STATE_QUEUED);
    const auto plan = harness.store().ReadPlan(JobNumber(1));
    QSWEEP_ASSERT_OK(plan);
    EXPECT_EQ(plan->documents(), of == 1 ? 7u : 6u);
  }
}

TEST(CollectGarbage, ComesInTheBatchInWhichAJobEnds) {
  LoopHarness harness;
  std::vector<uint64_t> ended;
  harness.loop().OnJobEnd([&ended](const v1::JobSummary& summary) {
    ended.push_back(summary.job_number());
  });
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "b"}));
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  harness.loop().Post(
      Caller{}, cancel,
      [](absl::StatusOr<v1::CancelJobResponse> r) { QSWEEP_EXPECT_OK(r); });
  const auto purged =
      *harness.Call<v1::CollectGarbageResponse>(v1::CollectGarbageRequest());
  QSWEEP_ASSERT_OK(purged);
  EXPECT_EQ(purged->jobs(), 1u);
  EXPECT_THAT(ended, ElementsAre(1u));
}

TEST(CollectGarbage, FreesTheUuidAtOnce) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  Cancel(harness, "1");
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "b"}));
  QSWEEP_ASSERT_OK(
      *harness.Call<v1::CollectGarbageResponse>(v1::CollectGarbageRequest()));
  const auto again = harness.Submit({.uuid = "a"});
  QSWEEP_ASSERT_OK(again);
  EXPECT_EQ(again->job_number(), 3u);
}

// What was learned of speeds decides who fits and how tasks are cut.
TEST(Restart, ForeseesAsBefore) {
  Settings settings;
  settings.max_rows_per_task = 2;
  LoopHarness harness(settings);
  harness.AddCorpus(10);  // 80 measurements
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = AttachWorker(harness, "w");
  double seconds = 0.1;  // as short as the clock stands
  std::set<uint64_t> done;
  for (size_t i = 0; i < link->states.size(); ++i) {
    const v1::DesiredState state = link->states[i];
    for (const v1::DesiredLease& lease : state.leases()) {
      if (lease.has_spec() && done.insert(lease.task_id()).second) {
        v1::TaskResult result = HonestResult(lease.spec());
        result.mutable_report()->set_run_seconds(seconds);
        result.mutable_report()->set_load_seconds(seconds / 2);
        seconds *= 1.01;
        harness.Commit(EnvelopeOf(lease.spec(), lease.epoch(), result));
      }
    }
  }
  ASSERT_EQ(done.size(), 40u);
  const std::string before = Durable(harness);
  EXPECT_THAT(before, HasSubstr("speed model="));
  harness.Crash();
  EXPECT_EQ(Durable(harness), before);
}

TEST(CollectGarbage, DeletesJobsForGood_AndKeepsWhatTheyMeasured) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  const auto link = AttachWorker(harness, "w");
  EXPECT_EQ(CommitNewest(harness, *link), v1::COMMIT_OUTCOME_OK);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "b"}));
  ASSERT_EQ(JobOf(harness, 1).state, v1::JOB_STATE_SUCCEEDED);
  const auto purged =
      *harness.Call<v1::CollectGarbageResponse>(v1::CollectGarbageRequest());
  QSWEEP_ASSERT_OK(purged);
  EXPECT_EQ(purged->jobs(), 1u);  // not the newest
  EXPECT_EQ(purged->tasks(), 1u);
  EXPECT_EQ(harness.state().FindJob(JobNumber(1)), nullptr);
  EXPECT_TRUE(harness.state().tasks().empty());
  const std::string before = Durable(harness);
  harness.Crash();  // while its rows are deleted
  EXPECT_EQ(Durable(harness), before);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(harness.Step(), absl::OkStatus());
  }
  harness.Crash();
  EXPECT_EQ(Durable(harness), before);
  const auto again = harness.Submit({.uuid = "a"});
  QSWEEP_ASSERT_OK(again);
  EXPECT_EQ(again->job_number(), 3u);
  EXPECT_EQ(again->plan().measurements_reused(), 24u);
}

}  // namespace
}  // namespace qsweep::testing
