#include "coordinator/loop.h"

#include <atomic>
#include <map>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/error_codes.h"
#include "coordinator/core/submit.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::IsEmpty;

using Fault = FaultyStore::Fault;

TEST(Loop, RunsASweepFromSubmitToLastRow) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = Attach(harness, "w");
  ASSERT_EQ(link->states.size(), 1u);
  ASSERT_EQ(link->states[0].leases_size(), 1);
  const v1::DesiredLease& lease = link->states[0].leases(0);
  EXPECT_EQ(harness
                .Commit(EnvelopeOf(lease.spec(), lease.epoch(),
                                   HonestResult(lease.spec())))
                .outcome(),
            v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(harness.state().job(JobNumber(1)).state, v1::JOB_STATE_SUCCEEDED);
  // The commit freed a slot: the worker is told at once.
  ASSERT_EQ(link->states.size(), 2u);
  EXPECT_EQ(link->states[1].leases_size(), 0);
  // Submitting it again runs nothing.
  const auto again = harness.Submit({.uuid = "b"});
  EXPECT_EQ(again->plan().tasks(), 0u);
  EXPECT_EQ(again->plan().measurements_reused(), 24u);
}

// The row of the task's (configuration, document) becomes one without sums.
void Skip(v1::TaskResult& result, int configuration, int document) {
  for (v1::Measurement& row : *result.mutable_rows()) {
    if (row.configuration_index() == static_cast<uint32_t>(configuration) &&
        row.document_index() == static_cast<uint32_t>(document)) {
      row.Clear();
      row.set_configuration_index(static_cast<uint32_t>(configuration));
      row.set_document_index(static_cast<uint32_t>(document));
      row.set_status(v1::ROW_STATUS_ONE_TOKEN);
    }
  }
}

TEST(Loop, CountsASkippedDocumentOnceForEachJobThatHasIt) {
  LoopHarness harness;
  harness.AddCorpus(3);
  // Job 2 has no layer 2: it shares but a part of job 1's task.
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a", .layers = 3}));
  QSWEEP_ASSERT_OK(
      harness.Submit({.uuid = "b", .layers = 3, .layer_range = "0-1"}));
  const auto link = Attach(harness, "w");
  ASSERT_EQ(link->states[0].leases_size(), 1);
  const v1::DesiredLease& lease = link->states[0].leases(0);
  v1::TaskResult result = HonestResult(lease.spec());
  const auto index_of = [&](absl::string_view layer_set) {
    for (int c = 0; c < lease.spec().configurations_size(); ++c) {
      if (lease.spec().configurations(c).layer_set() == layer_set) {
        return c;
      }
    }
    return -1;
  };
  Skip(result, index_of("none"), 0);
  Skip(result, index_of("L0"), 0);  // the same text again
  Skip(result, index_of("L2"), 1);  // of job 1 alone
  EXPECT_EQ(
      harness.Commit(EnvelopeOf(lease.spec(), lease.epoch(), result)).outcome(),
      v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(harness.state().job(JobNumber(1)).reason, "2 documents skipped");
  EXPECT_EQ(harness.state().job(JobNumber(2)).reason, "1 document skipped");
  // A job that measures again has them, too, and counts none twice.
  QSWEEP_ASSERT_OK(
      harness.Submit({.uuid = "c", .layers = 3, .reuse = v1::REUSE_NEVER}));
  EXPECT_EQ(harness.state().job(JobNumber(3)).documents_skipped, 2);
  harness.Crash();
  EXPECT_EQ(harness.state().job(JobNumber(1)).documents_skipped, 2);
  EXPECT_EQ(harness.state().job(JobNumber(2)).documents_skipped, 1);
}

TEST(Loop, SaysNothingOnAStreamItHasClosed) {
  LoopHarness harness;
  const auto old = Attach(harness, "w", 1);
  const auto link = Attach(harness, "w", 2);
  ASSERT_TRUE(old->closed.has_value());
  const size_t said = old->states.size();
  harness.loop().End(absl::OkStatus());  // tells every open stream
  EXPECT_EQ(old->states.size(), said);
  EXPECT_TRUE(link->states.back().going_away());
}

TEST(Loop, AnswersRepeatedSubmitWithThePlanOfThen) {
  LoopHarness harness;
  harness.AddCorpus(3);
  const auto first = harness.Submit({});
  harness.Crash();
  const auto again = harness.Submit({});
  QSWEEP_ASSERT_OK(again);
  EXPECT_TRUE(again->existed());
  EXPECT_EQ(again->job_number(), 1u);
  EXPECT_EQ(again->plan().SerializeAsString(),
            first->plan().SerializeAsString());
  EXPECT_EQ(CodeOf(harness.Submit({.layer_range = "0"})), "QS4022");
  EXPECT_EQ(harness.state().jobs().size(), 1u);
}

// What a name means may change between the preparation and the loop's turn.
TEST(Loop, PreparesASubmitAgain_WhenItsCorpusIsAnotherByNow) {
  LoopHarness harness;
  harness.AddCorpus(3);
  const v1::SubmitJobRequest request = SweepRequest();
  const auto prepare = [&request](int units) {
    return std::make_shared<const PreparedSubmit>(*PrepareSubmit(
        request,
        std::make_shared<const v1::Corpus>(SmallCorpus(units).corpus)));
  };
  const auto submit = [&](std::shared_ptr<const PreparedSubmit> prepared) {
    v1::SubmitJobRequest dry = request;
    dry.set_dry_run(true);
    uint64_t documents = 0;
    harness.loop().Post(
        Caller{}, dry,
        [&documents](const absl::StatusOr<v1::SubmitJobResponse>& response) {
          QSWEEP_ASSERT_OK(response);
          documents = response->plan().documents();
        },
        std::move(prepared));
    QSWEEP_EXPECT_OK(harness.Step());
    return documents;
  };
  EXPECT_EQ(submit(prepare(2)), 6u);  // two languages of three documents
  auto mine = std::make_shared<PreparedSubmit>(*prepare(3));
  mine->dry_run = true;
  mine->num_texts = 7;  // to tell it from one made on the loop
  EXPECT_EQ(submit(mine), 7u);
  EXPECT_EQ(submit(nullptr), 6u);
}

TEST(Loop, NamesUnknownCorpus) {
  LoopHarness harness;
  const auto answer = harness.Submit({});
  EXPECT_EQ(CodeOf(answer), "QS2113");
  EXPECT_EQ(FieldOf(answer), "corpus");
}

TEST(Loop, RepliesNothing_BeforeTheCommit) {
  LoopHarness harness;
  harness.AddCorpus(3);
  bool answered = false;
  harness.loop().Post(Caller{}, SweepRequest(), [&](auto) { answered = true; });
  EXPECT_FALSE(answered);
  harness.store().FailNext(Fault::kBeforeCommit,
                           absl::DataLossError("fsync failed"));
  EXPECT_TRUE(absl::IsDataLoss(harness.Step()));  // fatal
}

TEST(Loop, ForgetsAndSaysUnavailable_WhenCommitFails) {
  for (const Fault fault : {Fault::kBeforeCommit, Fault::kAfterCommit}) {
    SCOPED_TRACE(fault == Fault::kBeforeCommit ? "before" : "after");
    LoopHarness harness;
    harness.AddCorpus(3);
    harness.store().FailNext(fault, absl::UnavailableError("COMMIT"));
    EXPECT_TRUE(absl::IsUnavailable(harness.Submit({}).status()));
    QSWEEP_EXPECT_OK(harness.last_step());
    // The client cannot know; it asks again with the same UUID.
    const auto again = harness.Submit({});
    QSWEEP_ASSERT_OK(again);
    EXPECT_EQ(again->existed(), fault == Fault::kAfterCommit);
    EXPECT_EQ(harness.state().jobs().size(), 1u);
    EXPECT_THAT(CheckInvariants(harness.state()), IsEmpty());
  }
}

TEST(Loop, EndsWithTheError_WhenTheReloadFailsToo) {
  LoopHarness harness;
  harness.AddCorpus(3);
  harness.store().FailNext(Fault::kBeforeCommit,
                           absl::UnavailableError("COMMIT"));
  harness.store().FailNext(Fault::kLoad, absl::UnavailableError("cannot read"));
  harness.loop().Post(Caller{}, SweepRequest(), [](auto) {});
  EXPECT_FALSE(harness.Step().ok());
}

// Its client asks again, and the next process reads the disk anew.
TEST(Loop, EndsAndSaysUnavailable_WhenTheDiskFailsUnderACall) {
  LoopHarness harness;
  harness.AddCorpus(3);
  harness.store().FailNext(Fault::kReadStatuses,
                           MakeError(kDamagedDatabase, "disk I/O error"));
  const auto answer = harness.Submit({});
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(answer.status()), "QS4006");
  EXPECT_EQ(CodeOf(harness.last_step()), "QS4006");
  harness.Crash();
  QSWEEP_EXPECT_OK(harness.Submit({}));
}

TEST(Loop, AnswersEveryCall_WhenItEndsWithAnError) {
  const absl::Status lost = absl::DataLossError("fsync failed");
  const absl::Status internal = absl::InternalError("batch");
  const std::vector<std::vector<std::pair<Fault, absl::Status>>> ways = {
      {{Fault::kBeforeCommit, lost}},
      {{Fault::kBeforeCommit, internal}, {Fault::kLoad, internal}},
      {{Fault::kBeforeCommit, internal}, {Fault::kBeforeCommit, lost}},
  };
  for (const auto& faults : ways) {
    // A submit commits what is before it, which fails in the midst of the
    // calls; cancels alone fail together.
    for (const bool submit : {false, true}) {
      SCOPED_TRACE(submit);
      LoopHarness harness;
      harness.AddCorpus(3);
      for (const char* uuid : {"a", "b", "c"}) {
        QSWEEP_ASSERT_OK(harness.Submit({.uuid = uuid}));
      }
      for (const auto& [fault, status] : faults) {
        harness.store().FailNext(fault, status);
      }
      std::vector<absl::Status> answers;
      const auto cancel = [&](const std::string& job) {
        v1::CancelJobRequest request;
        request.mutable_job()->set_text(job);
        harness.loop().Post(Caller{}, request,
                            [&](auto r) { answers.push_back(r.status()); });
      };
      cancel("1");
      cancel("2");
      if (submit) {
        harness.loop().Post(Caller{}, SweepRequest({.uuid = "d"}),
                            [&](auto r) { answers.push_back(r.status()); });
      }
      cancel("3");
      EXPECT_FALSE(harness.Step().ok());
      EXPECT_EQ(answers.size(), submit ? 4u : 3u);
      for (const absl::Status& answer : answers) {
        EXPECT_FALSE(answer.ok());
      }
    }
  }
}

TEST(Loop, TellsWorkersNothingThatWasNotStored_WhenItEndsWithAnError) {
  LoopHarness harness;
  harness.AddCorpus(3);
  const auto link = Attach(harness, "w");
  const size_t told = link->states.size();
  QSWEEP_ASSERT_OK(harness.Submit({}));
  ASSERT_GT(link->states.size(), told);  // a lease
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  harness.loop().Post(Caller{}, cancel, [](auto) {});
  harness.store().FailNext(Fault::kBeforeCommit,
                           absl::DataLossError("fsync failed"));
  const size_t before = link->states.size();
  const absl::Status status = harness.Step();
  EXPECT_TRUE(absl::IsDataLoss(status));
  harness.loop().End(status);
  EXPECT_EQ(link->states.size(), before);  // not that the lease is gone
  EXPECT_TRUE(absl::IsUnavailable(*link->closed));
}

TEST(Loop, KnowsACalibrationsCorpusByItsName) {
  LoopHarness harness;
  harness.AddCorpus(3);
  v1::SubmitJobRequest request = SweepRequest();
  request.mutable_spec()->set_quantizers(0, "gptq:group=4");
  v1::CalibrationRequest& calibration =
      *request.mutable_spec()->mutable_calibration();
  calibration.set_corpus("none");
  const auto refused = *harness.Call<v1::SubmitJobResponse>(request);
  EXPECT_EQ(CodeOf(refused), "QS2113");
  EXPECT_EQ(FieldOf(refused), "calibration.corpus");
  calibration.set_corpus(request.spec().corpus());
  calibration.set_corpus_digest("nobody asked");
  QSWEEP_ASSERT_OK(*harness.Call<v1::SubmitJobResponse>(request));
  const auto job = harness.store().ReadJob(JobNumber(1));
  QSWEEP_ASSERT_OK(job);
  EXPECT_EQ(job->spec.calibration().corpus_digest(), job->corpus.bytes());
}

TEST(Loop, RaisesOneAlarm_WhenADifferingResultIsSentAgain) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const v1::DesiredLease lease = Attach(harness, "w")->states[0].leases(0);
  v1::TaskResult result = HonestResult(lease.spec());
  const auto commit = [&] {
    return harness.Commit(EnvelopeOf(lease.spec(), lease.epoch(), result))
        .outcome();
  };
  EXPECT_EQ(commit(), v1::COMMIT_OUTCOME_OK);
  result.mutable_rows(0)->set_nll_sum(99);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(commit(), v1::COMMIT_OUTCOME_SUPERSEDED);
  }
  int alarms = 0;
  const auto events =
      harness.store().ReadEvents(JobNumber(1), EventSeq(0), 1000);
  QSWEEP_ASSERT_OK(events);
  for (const v1::DurableEvent& event : *events) {
    alarms += event.kind() == "determinism_alarm" ? 1 : 0;
  }
  EXPECT_EQ(alarms, 1);
}

TEST(Loop, KnowsAResultAgain_WhoseRowsWereCompared) {
  Settings settings;
  settings.audit_rate = 1;
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto first = Attach(harness, "w");
  const auto second = Attach(harness, "v");
  const v1::DesiredLease lease = first->states[0].leases(0);
  EXPECT_EQ(harness
                .Commit(EnvelopeOf(lease.spec(), lease.epoch(),
                                   HonestResult(lease.spec())))
                .outcome(),
            v1::COMMIT_OUTCOME_OK);
  ASSERT_EQ(second->states.back().leases_size(), 1);
  const v1::DesiredLease audit = second->states.back().leases(0);
  const v1::ResultEnvelope envelope =
      EnvelopeOf(audit.spec(), audit.epoch(), HonestResult(audit.spec()));
  EXPECT_EQ(harness.Commit(envelope).outcome(), v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(harness.Commit(envelope).outcome(),
            v1::COMMIT_OUTCOME_ALREADY_COMMITTED);
}

TEST(Loop, RaisesOneAlarm_WhenOtherDocumentsComeWithOtherCodes) {
  Settings settings;
  settings.max_rows_per_task = 4;  // a document each
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = Attach(harness, "w");
  const auto commit = [&](const char* codes) {
    const v1::DesiredLease lease = link->states.back().leases(0);
    v1::TaskResult result = HonestResult(lease.spec());
    for (v1::Measurement& row : *result.mutable_rows()) {
      if (row.configuration_index() == 1) {
        row.set_codes(Digest::Of(codes).bytes());
      }
    }
    EXPECT_EQ(harness.Commit(EnvelopeOf(lease.spec(), lease.epoch(), result))
                  .outcome(),
              v1::COMMIT_OUTCOME_OK);
    int alarms = 0;
    const auto events =
        harness.store().ReadEvents(JobNumber(1), EventSeq(0), 1000);
    EXPECT_TRUE(events.ok()) << events.status();
    for (const v1::DurableEvent& event : *events) {
      alarms += event.kind() == "determinism_alarm" ? 1 : 0;
    }
    return alarms;
  };
  EXPECT_EQ(commit("one"), 0);
  EXPECT_EQ(commit("one"), 0);
  EXPECT_EQ(commit("other"), 1);
  EXPECT_EQ(commit("other"), 1);  // it is known by now
}

// Results of one step are one commit, and each knows the codes of those before.
TEST(Loop, ComparesCodesWithThoseOfItsBatch_WithoutACommit) {
  Settings settings;
  settings.max_rows_per_task = 4;  // a document each
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = Attach(harness, "w");
  ASSERT_EQ(link->states[0].leases_size(), 2);
  std::vector<v1::CommitOutcome> outcomes;
  for (const char* codes : {"one", "other"}) {
    const v1::DesiredLease& lease =
        link->states[0].leases(static_cast<int>(outcomes.size()));
    outcomes.push_back(v1::COMMIT_OUTCOME_UNSPECIFIED);
    v1::TaskResult result = HonestResult(lease.spec());
    for (v1::Measurement& row : *result.mutable_rows()) {
      if (row.configuration_index() == 1) {
        row.set_codes(Digest::Of(codes).bytes());
      }
    }
    v1::CommitResultRequest request;
    *request.add_results() = EnvelopeOf(lease.spec(), lease.epoch(), result);
    harness.loop().Post(Caller{}, request,
                        [&outcomes, i = outcomes.size() - 1](
                            absl::StatusOr<v1::CommitResultResponse> response) {
                          QSWEEP_ASSERT_OK(response);
                          outcomes[i] = response->results(0).outcome();
                        });
  }
  const int64_t before = harness.store().num_commits();
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_THAT(outcomes, ::testing::ElementsAre(v1::COMMIT_OUTCOME_OK,
                                               v1::COMMIT_OUTCOME_OK));
  EXPECT_EQ(harness.store().num_commits(), before + 1);
  int alarms = 0;
  const auto events =
      harness.store().ReadEvents(JobNumber(1), EventSeq(0), 1000);
  QSWEEP_ASSERT_OK(events);
  for (const v1::DurableEvent& event : *events) {
    alarms += event.kind() == "determinism_alarm" ? 1 : 0;
  }
  EXPECT_EQ(alarms, 1);
}

TEST(Loop, TakesOneBadRequestOutOfItsBatch) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "b", .layer_range = "0"}));
  std::vector<absl::Status> answers;
  for (const char* job : {"1", "2"}) {
    v1::CancelJobRequest request;
    request.mutable_job()->set_text(job);
    harness.loop().Post(Caller{}, request,
                        [&](auto r) { answers.push_back(r.status()); });
  }
  // The batch fails, then the first of its requests on its own.
  harness.store().FailNext(Fault::kBeforeCommit, absl::InternalError("batch"));
  harness.store().FailNext(Fault::kBeforeCommit, absl::InternalError("first"));
  QSWEEP_ASSERT_OK(harness.Step());
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(absl::IsInternal(answers[0]));
  QSWEEP_EXPECT_OK(answers[1]);
  EXPECT_EQ(harness.state().job(JobNumber(1)).state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(harness.state().job(JobNumber(2)).state, v1::JOB_STATE_CANCELLED);
}

TEST(Loop, TakesResultsOnly_WhileTheDiskIsFull) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto link = Attach(harness, "w");
  const v1::DesiredLease lease = link->states[0].leases(0);
  const absl::Status full = MakeError(kDiskFull, "no space left");
  harness.store().FailNext(Fault::kBeforeCommit, full);
  const auto refused = harness.Submit({.uuid = "b", .layer_range = "0"});
  EXPECT_TRUE(absl::IsUnavailable(refused.status()));
  EXPECT_EQ(CodeOf(refused), "QS4004");
  // Refused without trying from now on, and no lease is granted.
  EXPECT_EQ(CodeOf(harness.Submit({.uuid = "b"})), "QS4004");
  v1::AddCorpusRequest corpus;
  *corpus.mutable_corpus() = SmallCorpus(3).corpus;
  EXPECT_EQ(CodeOf(*harness.Call<v1::AddCorpusResponse>(corpus)), "QS4004");
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  EXPECT_EQ(CodeOf(*harness.Call<v1::CancelJobResponse>(cancel)), "QS4004");
  EXPECT_TRUE(link->closed.has_value());
  const auto link2 = Attach(harness, "w2");
  EXPECT_EQ(link2->states.back().leases_size(), 0);
  // A result is stored all the same.
  EXPECT_EQ(harness
                .Commit(EnvelopeOf(lease.spec(), lease.epoch(),
                                   HonestResult(lease.spec())))
                .outcome(),
            v1::COMMIT_OUTCOME_OK);
  // The real disk has room for the reserve: one beat later all is well.
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  QSWEEP_EXPECT_OK(harness.Submit({.uuid = "b", .layer_range = "0"}));
}

TEST(Loop, ServesOn_WhenACheckpointFindsNoRoom) {
  LoopHarness harness;
  harness.AddCorpus(3);
  harness.store().FailNext(Fault::kIdle, MakeError(kDiskFull, "no space left"));
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(2)));
  QSWEEP_EXPECT_OK(harness.Submit({}));
  // What says that the disk lies is fatal all the same.
  harness.store().FailNext(Fault::kIdle, MakeError(kDamagedDatabase, "fsync"));
  EXPECT_EQ(CodeOf(harness.StepAfter(absl::Seconds(2))), "QS4006");
}

TEST(Loop, SleepsAndStillAnswersPolls_WhileTheDiskIsFull) {
  LoopHarness harness;
  harness.AddCorpus(3);
  const absl::Status full = MakeError(kDiskFull, "no space left");
  harness.store().FailNext(Fault::kBeforeCommit, full);
  EXPECT_EQ(CodeOf(harness.Submit({})), "QS4004");
  std::optional<absl::StatusOr<v1::DesiredState>> answer;
  const auto poll = [&](v1::WorkerState state) {
    answer.reset();
    harness.loop().Post(Caller{}, std::move(state),
                        [&](auto r) { answer = std::move(r); });
    return harness.Step();
  };
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello("w", {});
  QSWEEP_ASSERT_OK(poll(report));
  ASSERT_TRUE(answer && answer->ok());
  report.clear_hello();
  report.set_session_id((*answer)->welcome().session_id());
  report.set_beat_seq(1);
  QSWEEP_ASSERT_OK(poll(report));
  ASSERT_FALSE(answer);
  // A step at its own deadline leaves nothing due: neither the end of the
  // writes nor a poll's beat turns into a loop that never sleeps.
  const SteadyTime began = harness.clock().SteadyNow();
  while (!answer) {
    const absl::Duration wait =
        harness.loop().NextDeadline() - harness.clock().SteadyNow();
    ASSERT_GT(wait, absl::ZeroDuration());
    harness.store().FailNext(Fault::kRestoreReserve, full);
    QSWEEP_ASSERT_OK(harness.StepAfter(wait));
    harness.store().ClearFaults();
  }
  QSWEEP_EXPECT_OK(*answer);
  EXPECT_EQ(harness.clock().SteadyNow() - began, absl::Seconds(10));
  EXPECT_EQ(CodeOf(harness.Submit({})), "QS4004");
}

TEST(Loop, HonoursLeasesOfTheLastLife_UntilTheFailoverDeadline) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  Attach(harness, "w");
  harness.Crash();
  EXPECT_EQ(harness.state().coordinator_epoch(), 2);
  for (int beat = 0; beat < 12; ++beat) {
    EXPECT_EQ(harness.state().task(TaskId(1)).state, v1::TASK_STATE_LEASED);
    QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  }
  EXPECT_EQ(harness.state().task(TaskId(1)).history->lost, 1);
}

TEST(Loop, LetsWorkersBeHeard_AfterItDidNotRun) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  Attach(harness, "w");
  // The machine slept for an hour. What the worker said is still on its way.
  EXPECT_LE(harness.loop().NextDeadline() - harness.clock().SteadyNow(),
            absl::Seconds(10));
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Hours(1)));
  EXPECT_EQ(harness.state().task(TaskId(1)).state, v1::TASK_STATE_LEASED);
  // It says nothing for a lease's time.
  for (int beat = 0; beat < 6; ++beat) {
    EXPECT_EQ(harness.state().task(TaskId(1)).history->lost, 0);
    EXPECT_GT(harness.loop().NextDeadline(), harness.clock().SteadyNow());
    QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  }
  EXPECT_EQ(harness.state().task(TaskId(1)).history->lost, 1);
}

TEST(Loop, ChargesNoJobForTheTimeItDidNotRun) {
  LoopHarness harness;
  harness.AddCorpus(3);
  v1::SubmitJobRequest request = SweepRequest({});
  request.mutable_spec()->mutable_policy()->set_queue_timeout_ms(60'000);
  QSWEEP_ASSERT_OK(*harness.Call<v1::SubmitJobResponse>(request));
  const Job& job = harness.state().job(JobNumber(1));
  EXPECT_LE(harness.loop().NextDeadline() - harness.clock().SteadyNow(),
            absl::Seconds(10));
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Hours(1)));
  EXPECT_EQ(job.state, v1::JOB_STATE_QUEUED);
  for (int beat = 0; beat < 6; ++beat) {
    EXPECT_EQ(job.state, v1::JOB_STATE_QUEUED);
    EXPECT_GT(harness.loop().NextDeadline(), harness.clock().SteadyNow());
    QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  }
  EXPECT_EQ(job.state, v1::JOB_STATE_CANCELLED);
}

// At the last moment, in the step of the deadline.
TEST(Loop, LeasesBeforeAJobsWaitEnds) {
  LoopHarness harness;
  harness.AddCorpus(3);
  v1::SubmitJobRequest request = SweepRequest({});
  request.mutable_spec()->mutable_policy()->set_queue_timeout_ms(10'000);
  QSWEEP_ASSERT_OK(*harness.Call<v1::SubmitJobResponse>(request));
  harness.clock().Advance(absl::Seconds(10));
  const auto link = Attach(harness, "w");
  EXPECT_EQ(harness.state().job(JobNumber(1)).state, v1::JOB_STATE_RUNNING);
}

TEST(Loop, SendsTheLeaseAgain_WhenTheSameProcessAttachesAfterARestart) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  Attach(harness, "w");
  harness.Crash();
  const auto link = Attach(harness, "w");
  ASSERT_EQ(link->states.back().leases_size(), 1);
  EXPECT_EQ(link->states.back().leases(0).epoch(), 1u);
  EXPECT_EQ(harness.state().task(TaskId(1)).history->lost, 0);
}

TEST(Loop, ClosesTheOlderStream_WhenAWorkerAttachesTwice) {
  LoopHarness harness;
  const auto older = Attach(harness, "w", 1);
  const auto newer = Attach(harness, "w", 2);
  ASSERT_TRUE(older->closed.has_value());
  EXPECT_EQ(CodeOf(*older->closed), "QS5010");
  EXPECT_FALSE(newer->closed.has_value());
  // The same process, whose stream broke unseen, is not told to go away.
  const auto newest = Attach(harness, "w", 2);
  EXPECT_TRUE(absl::IsUnavailable(*newer->closed));
  EXPECT_FALSE(newest->closed.has_value());
  // Its end comes late and must not make the newer one suspect.
  harness.loop().PostDetach(older);
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(harness.state().FindWorker(TestWorker("w"))->liveness,
            WorkerLiveness::kLive);
}

TEST(Loop, AnswersAPollAtOnceForHello_ThenOnNewsOrAfterABeat) {
  LoopHarness harness;
  harness.AddCorpus(3);
  std::vector<absl::StatusOr<v1::DesiredState>> answers;
  const auto poll = [&](v1::WorkerState state) {
    harness.loop().Post(Caller{}, std::move(state),
                        [&](auto r) { answers.push_back(std::move(r)); });
    QSWEEP_EXPECT_OK(harness.Step());
  };
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello("w", {});
  report.set_credits(2);
  poll(report);
  ASSERT_EQ(answers.size(), 1u);
  QSWEEP_ASSERT_OK(answers[0]);
  report.clear_hello();
  report.set_session_id(answers[0]->welcome().session_id());
  report.set_beat_seq(1);
  poll(report);
  EXPECT_EQ(answers.size(), 1u);  // no news
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  EXPECT_EQ(answers.size(), 2u);  // a beat has passed
  report.set_beat_seq(2);
  poll(report);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[2]->leases_size(), 1);
}

TEST(Loop, EndsTheOlderOfTwoPolls_WhicheverComesFirst) {
  LoopHarness harness;
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello("w", {});
  const auto hello = harness.CallAs<v1::DesiredState>(Caller{}, report);
  ASSERT_TRUE(hello && hello->ok());
  report.clear_hello();
  report.set_session_id((*hello)->welcome().session_id());
  std::map<uint64_t, absl::StatusOr<v1::DesiredState>> answers;
  for (const uint64_t beat : {1u, 3u, 2u}) {
    report.set_beat_seq(beat);
    harness.loop().Post(Caller{}, report,
                        [&, beat](auto r) { answers.emplace(beat, r); });
    QSWEEP_ASSERT_OK(harness.Step());
  }
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(absl::IsAborted(answers.at(1).status()));
  EXPECT_TRUE(absl::IsAborted(answers.at(2).status()));
  QSWEEP_ASSERT_OK(harness.StepAfter(absl::Seconds(10)));
  QSWEEP_EXPECT_OK(answers.at(3));
}

TEST(Loop, RefusesAPoll_OnASessionThatHasAStream) {
  LoopHarness harness;
  const auto link = Attach(harness, "w");
  v1::WorkerState report;
  report.set_session_id(link->states.back().welcome().session_id());
  report.set_beat_seq(100);
  const auto answer = harness.CallAs<v1::DesiredState>(Caller{}, report);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(CodeOf(answer->status()), "QS5011");
  EXPECT_FALSE(link->closed.has_value());
}

TEST(Loop, RefusesBytesWithAnotherDigest_AndACorpusWithoutTexts) {
  LoopHarness harness;
  absl::Status status;
  harness.loop().PostArtifact(Digest::Of("a"), "b",
                              [&](auto r) { status = r.status(); });
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(CodeOf(status), "QS4042");
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = SmallCorpus(3).corpus;
  EXPECT_EQ(CodeOf(*harness.Call<v1::AddCorpusResponse>(request)), "QS4041");
}

TEST(Loop, RefusesCalls_WhenTooManyWait) {
  Settings settings;
  settings.queue_high_water = 2;
  LoopHarness harness(settings);
  std::vector<absl::Status> answers;
  for (int i = 0; i < 5; ++i) {
    harness.loop().Post(v1::ListWorkersRequest(),
                        [&](auto r) { answers.push_back(r.status()); });
  }
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(CodeOf(answers[0]), "QS4040");
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(answers.size(), 5u);
}

TEST(Loop, GrantsNoLease_WhileTooManyCallsWait) {
  Settings settings;
  settings.queue_high_water = 2;
  settings.batch_requests_max = 3;
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  auto link = std::make_shared<RecordingLink>();
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello("w", {});
  report.set_credits(2);
  harness.loop().PostAttach(Caller{}, report, link);
  // Six wait: a step takes three of them.
  for (int i = 0; i < 5; ++i) {
    harness.loop().PostDetach(std::make_shared<RecordingLink>());
  }
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(harness.state().leased_tasks().size(), 0u);
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(harness.state().leased_tasks().size(), 1u);
}

// Parts are refused on this thread while the loop answers others.
TEST(Loop, AnswersARequestOfManyPartsOnce_WhenSomeAreRefused) {
  constexpr int kRequests = 2000;
  constexpr int kParts = 50;
  Settings settings;
  settings.queue_high_water = 5;
  LoopHarness harness(settings);
  v1::CommitResultRequest request;
  for (int i = 0; i < kParts; ++i) {
    request.add_results()->set_task_id(1);  // no such task
  }
  std::thread thread([&] { QSWEEP_EXPECT_OK(harness.loop().Run()); });
  std::atomic<int> answers = 0;
  std::atomic<int> refused = 0;
  for (int i = 0; i < kRequests; ++i) {
    harness.loop().Post(Caller{}, request, [&](auto r) {
      ++answers;
      refused += r.ok() ? 0 : 1;
    });
  }
  harness.loop().Stop();
  thread.join();
  EXPECT_EQ(answers, kRequests);
  EXPECT_GT(refused, 0);
}

TEST(Loop, CommitsWhatIsQueuedAndSaysGoodbye_WhenStopped) {
  LoopHarness harness;
  harness.AddCorpus(3);
  const auto link = Attach(harness, "w");
  absl::StatusOr<v1::SubmitJobResponse> answer = absl::UnknownError("none");
  harness.loop().Post(Caller{}, SweepRequest(),
                      [&](auto r) { answer = std::move(r); });
  harness.loop().Stop();
  QSWEEP_EXPECT_OK(harness.loop().Run());
  QSWEEP_EXPECT_OK(answer);
  EXPECT_TRUE(link->states.back().going_away());
  EXPECT_TRUE(absl::IsUnavailable(*link->closed));
  absl::Status late;
  harness.loop().Post(v1::ListWorkersRequest(),
                      [&](auto r) { late = r.status(); });
  EXPECT_TRUE(absl::IsUnavailable(late));
}

TEST(Loop, WakesForCallsFromOtherThreads) {
  LoopHarness harness;
  std::thread thread([&] { QSWEEP_EXPECT_OK(harness.loop().Run()); });
  std::atomic<int> answers = 0;
  for (int i = 0; i < 100; ++i) {
    harness.loop().Post(v1::ListWorkersRequest(), [&](auto) {
      if (++answers == 100) {
        harness.loop().Stop();
      }
    });
  }
  thread.join();
  EXPECT_EQ(answers, 100);
}

}  // namespace
}  // namespace qsweep::testing
