#include "coordinator/core/commit.h"

#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/lease.h"
#include "coordinator/core/policy.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Stored = std::vector<std::optional<StoredRow>>;

v1::Measurement Row(uint32_t configuration, uint32_t document,
                    double nll_sum = 2.5) {
  v1::Measurement row;
  row.set_configuration_index(configuration);
  row.set_document_index(document);
  row.set_status(v1::ROW_STATUS_OK);
  row.set_nll_sum(nll_sum);
  row.set_nll_fp_sum(2.25);
  row.set_tokens(7);
  row.set_kl_sum(0.5);
  row.set_top1(6);
  return row;
}

StoredRow Was(uint32_t configuration, uint32_t document, double nll_sum = 2.5) {
  return {.values = Row(configuration, document, nll_sum)};
}

// All rows of StateBuilder's default task: one configuration, two documents.
v1::TaskResult FullResult(double nll_sum = 2.5) {
  v1::TaskResult result;
  *result.add_rows() = Row(0, 0, nll_sum);
  *result.add_rows() = Row(0, 1, nll_sum);
  return result;
}

v1::ResultEnvelope Envelope(const v1::TaskResult& result, uint64_t epoch = 1) {
  v1::ResultEnvelope envelope;
  envelope.set_task_id(1);
  envelope.set_epoch(epoch);
  envelope.set_content_key(TestDigest("task 1").bytes());
  envelope.set_payload(result.SerializeAsString());
  envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
  return envelope;
}

Decision<v1::CommitResultResponse::One> Decide(
    const State& state, const v1::ResultEnvelope& envelope,
    Stored stored = Stored(2), const std::map<JobNumber, int64_t>& skipped = {},
    const Settings& settings = {}, std::vector<Digest> known_codes = {}) {
  const TaskKeys keys{.evaluation = "aligned@1;tok=00",
                      .configurations = {TestDigest("model rtn:bits=4")},
                      .documents = {TestDigest("d1"), TestDigest("d2")},
                      .known_codes = {std::move(known_codes)}};
  auto result = OpenEnvelope(state, "", envelope);
  if (!result.ok()) {
    return {.reply = RejectedResult(result.status())};
  }
  return DecideCommit(state, envelope, *std::move(result), keys, stored,
                      skipped, settings, TestNow());
}

StateBuilder OneJob() {
  StateBuilder builder;
  builder.Job({.measurements = 2}).Task().Worker("w");
  return builder;
}

State Leased() { return OneJob().Lease(1, "w").Build(); }

// Epoch 1 was lost, the task waits in `to`.
State Lost(v1::TaskState to) {
  StateBuilder builder = OneJob();
  builder.Lease(1, "w").Apply(LeaseEnded{
      .task = TaskId(1), .epoch = Epoch(1), .end = LeaseEnd::kLost, .to = to});
  if (to == v1::TASK_STATE_QUARANTINED || to == v1::TASK_STATE_CANCELLED) {
    builder.Apply(JobStateChanged{.job = JobNumber(1),
                                  .state = v1::JOB_STATE_FAILED,
                                  .time = TestNow().wall});
  }
  return builder.Build();
}

TEST(DecideCommit, StoresRowsAndEndsJob_WhenResultIsFirst) {
  const State state = Leased();
  const auto decision = Decide(state, Envelope(FullResult()));
  EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
  EXPECT_THAT(EventsOf(decision.mutations),
              ElementsAre("1:task_done", "1:job_succeeded"));
  const auto results = Only<ResultCommitted>(decision.mutations);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].rows.size(), 2u);
  EXPECT_EQ(results[0].worker, TestWorker("w"));
  EXPECT_THAT(Only<DuplicateRecorded>(decision.mutations), IsEmpty());
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_DONE);
  EXPECT_EQ(after.task(TaskId(1)).history->grants[0].end, LeaseEnd::kCommitted);
  EXPECT_EQ(after.job(JobNumber(1)).measurements_done, 2);
  EXPECT_TRUE(after.FindWorker(TestWorker("w"))->leases.empty());
}

TEST(DecideCommit, RejectsAndChangesNothing_WhenEnvelopeIsWrong) {
  struct Case {
    const char* name;
    const char* code;
    void (*spoil)(v1::ResultEnvelope&);
  };
  for (const Case& c : {
           Case{"unknown task", "QS4021", [](auto& e) { e.set_task_id(9); }},
           Case{"epoch not granted", "QS5008", [](auto& e) { e.set_epoch(2); }},
           Case{"epoch zero", "QS5008", [](auto& e) { e.set_epoch(0); }},
           Case{"other content", "QS5008",
                [](auto& e) { e.set_content_key(TestDigest("x").bytes()); }},
           Case{"payload changed", "QS5008",
                [](auto& e) { e.mutable_payload()->back() ^= 1; }},
           Case{"not a result", "QS5008",
                [](auto& e) {
                  e.set_payload("\xff\xff\xff");
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"a load that took no time there is", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_load_seconds(std::nan(""));
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"a run that ended before it began", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_run_seconds(-1);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"waited for weights for no time there is", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_weight_seconds(std::nan(""));
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"waited for weights for longer than there is", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_weight_seconds(1e300);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"waited for weights before it began", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_weight_seconds(-1e300);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"read more bytes than there are", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_weight_bytes(~uint64_t{0});
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"a noise that hides all results for ever", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  v1::NoiseFloor& noise =
                      *result.mutable_report()->mutable_noise();
                  noise.set_nll_per_token(0.01);  // in fp32
                  noise.set_documents(1);
                  noise.set_tokens(1);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"a noise that is no number", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  v1::NoiseFloor& noise =
                      *result.mutable_report()->mutable_noise();
                  noise.set_nll_per_token(std::nan(""));
                  noise.set_documents(1);
                  noise.set_tokens(1);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"a noise of no document", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->mutable_noise()->set_tokens(1);
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
           Case{"good rows and 10 MiB of a name", "QS5008",
                [](auto& e) {
                  v1::TaskResult result = FullResult();
                  result.mutable_report()->set_engine(
                      std::string(10 << 20, 'x'));
                  e.set_payload(result.SerializeAsString());
                  e.set_payload_sha256(Digest::Of(e.payload()).bytes());
                }},
       }) {
    SCOPED_TRACE(c.name);
    v1::ResultEnvelope envelope = Envelope(FullResult());
    c.spoil(envelope);
    const auto decision = Decide(Leased(), envelope);
    EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_REJECTED);
    EXPECT_EQ(decision.reply->failure().detail().code(), c.code);
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

// Three such results would keep every worker with a time limit from the model.
TEST(DecideCommit, LearnsNoSpeed_OfTimesThatTheLeaseWasNotHeld) {
  v1::TaskResult result = FullResult();
  const auto learns_load = [&result](const State& state) {
    const auto decision = Decide(state, Envelope(result));
    EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
    return Only<ResultCommitted>(decision.mutations).at(0).speed.load_seconds >
           0;
  };
  result.mutable_report()->set_load_seconds(0.5);
  EXPECT_TRUE(learns_load(Leased()));
  EXPECT_FALSE(learns_load(Lost(v1::TASK_STATE_READY)));  // late
  result.mutable_report()->set_run_seconds(1e9);
  EXPECT_FALSE(learns_load(Leased()));
}

TEST(DecideCommit, RejectsAnotherCredential) {
  const State state = StateBuilder()
                          .Job()
                          .Task()
                          .Worker("w", {.credential = "token-1"})
                          .Lease(1, "w")
                          .Build();
  EXPECT_EQ(
      Decide(state, Envelope(FullResult())).reply->failure().detail().code(),
      "QS6002");
}

TEST(DecideCommit, RejectsRows_WhenTheyAreNotExactlyTheKeys) {
  struct Case {
    const char* name;
    void (*spoil)(v1::TaskResult&);
  };
  for (const Case& c : {
           Case{"row missing", [](auto& r) { r.mutable_rows()->RemoveLast(); }},
           Case{"row twice",
                [](auto& r) { r.mutable_rows(1)->set_document_index(0); }},
           Case{"row too many", [](auto& r) { *r.add_rows() = Row(0, 1); }},
           Case{"no such document",
                [](auto& r) { r.mutable_rows(1)->set_document_index(2); }},
           Case{"no such configuration",
                [](auto& r) { r.mutable_rows(1)->set_configuration_index(1); }},
           Case{"NaN",
                [](auto& r) {
                  r.mutable_rows(1)->set_nll_sum(
                      std::numeric_limits<double>::quiet_NaN());
                }},
           Case{"infinite KL",
                [](auto& r) { r.mutable_rows(0)->set_kl_sum(HUGE_VAL); }},
           Case{"no status",
                [](auto& r) {
                  r.mutable_rows(0)->set_status(v1::ROW_STATUS_UNSPECIFIED);
                }},
           Case{"sums without score",
                [](auto& r) {
                  r.mutable_rows(0)->set_status(v1::ROW_STATUS_ONE_TOKEN);
                }},
           Case{"baseline's sum without score",
                [](auto& r) {
                  r.mutable_rows(0)->Clear();
                  r.mutable_rows(0)->set_status(v1::ROW_STATUS_EMPTY);
                  r.mutable_rows(0)->set_nll_fp_sum(1);
                }},
           Case{"KL without score",
                [](auto& r) {
                  r.mutable_rows(0)->Clear();
                  r.mutable_rows(0)->set_status(v1::ROW_STATUS_EMPTY);
                  r.mutable_rows(0)->set_kl_sum(0);
                }},
           Case{"agreements without score",
                [](auto& r) {
                  r.mutable_rows(0)->Clear();
                  r.mutable_rows(0)->set_status(v1::ROW_STATUS_EMPTY);
                  r.mutable_rows(0)->set_top1(0);
                }},
           Case{"no tokens", [](auto& r) { r.mutable_rows(0)->set_tokens(0); }},
           Case{"bytes beyond the store's integers",
                [](auto& r) {
                  r.mutable_rows(0)->set_bytes(uint64_t{1} << 63);
                }},
           Case{"characters of no document",
                [](auto& r) {
                  r.mutable_rows(1)->Clear();
                  r.mutable_rows(1)->set_document_index(1);
                  r.mutable_rows(1)->set_status(v1::ROW_STATUS_ONE_TOKEN);
                  r.mutable_rows(1)->set_chars(uint64_t{1} << 41);
                }},
           Case{"codes that are no digest",
                [](auto& r) { r.mutable_rows(0)->set_codes("0123"); }},
           Case{"two digests of one configuration's codes",
                [](auto& r) {
                  r.mutable_rows(0)->set_codes(TestDigest("a").bytes());
                  r.mutable_rows(1)->set_codes(TestDigest("b").bytes());
                }},
           Case{"more agreements than tokens",
                [](auto& r) { r.mutable_rows(0)->set_top1(8); }},
       }) {
    SCOPED_TRACE(c.name);
    v1::TaskResult result = FullResult();
    c.spoil(result);
    const auto decision = Decide(Leased(), Envelope(result));
    EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_REJECTED);
    EXPECT_EQ(decision.reply->failure().detail().code(), "QS5008");
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

TEST(DecideCommit, CountsSkippedDocuments_WithoutFailingTheTask) {
  v1::TaskResult result = FullResult();
  v1::Measurement& row = *result.mutable_rows(1);
  row.Clear();
  row.set_document_index(1);
  row.set_status(v1::ROW_STATUS_ONE_TOKEN);
  const State state = Leased();
  const auto decision =
      Decide(state, Envelope(result), Stored(2), {{JobNumber(1), 1}});
  EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  const Job& job = after.job(JobNumber(1));
  EXPECT_EQ(job.state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.documents_skipped, 1);
  EXPECT_EQ(job.reason, "1 document skipped");
}

TEST(SkippedKeys, AreThoseWhoseStoredRowWillHaveNoSums) {
  const TaskKeys keys{.evaluation = "e",
                      .configurations = {TestDigest("c1"), TestDigest("c2")},
                      .documents = {TestDigest("d1"), TestDigest("d2")}};
  v1::TaskResult result;
  for (const auto& [c, d] : {std::pair(0u, 0u), {0u, 1u}, {1u, 0u}, {7u, 0u}}) {
    *result.add_rows() = Row(c, d);
    result.mutable_rows()->rbegin()->set_status(v1::ROW_STATUS_EMPTY);
  }
  *result.add_rows() = Row(1, 1);
  Stored stored(4);
  stored[1] = Was(0, 1);  // what is stored stays
  stored[3] = Was(1, 1);
  stored[3]->values.set_status(v1::ROW_STATUS_TOO_LONG);
  std::vector<std::pair<Digest, Digest>> found;
  for (const SkippedKey& key : SkippedKeys(result, keys, stored)) {
    found.emplace_back(key.configuration, key.document);
    EXPECT_EQ(key.stored, found.size() == 3);
  }
  EXPECT_THAT(found,
              ElementsAre(std::pair(TestDigest("c1"), TestDigest("d1")),
                          std::pair(TestDigest("c2"), TestDigest("d1")),
                          std::pair(TestDigest("c2"), TestDigest("d2"))));
}

TEST(DecideCommit, SalvagesOlderEpoch_WhileNoResultExists) {
  struct Case {
    v1::TaskState waiting;
    v1::CommitOutcome outcome;
    v1::TaskState state;
  };
  for (const Case& c : {
           Case{v1::TASK_STATE_READY, v1::COMMIT_OUTCOME_OK,
                v1::TASK_STATE_DONE},
           Case{v1::TASK_STATE_BACKOFF, v1::COMMIT_OUTCOME_OK,
                v1::TASK_STATE_DONE},
           Case{v1::TASK_STATE_QUARANTINED, v1::COMMIT_OUTCOME_OK,
                v1::TASK_STATE_DONE},
           Case{v1::TASK_STATE_CANCELLED, v1::COMMIT_OUTCOME_CANCELLED,
                v1::TASK_STATE_CANCELLED},
       }) {
    SCOPED_TRACE(v1::TaskState_Name(c.waiting));
    const State state = Lost(c.waiting);
    const auto decision = Decide(state, Envelope(FullResult()));
    EXPECT_EQ(decision.reply->outcome(), c.outcome);
    const State after = After(state, decision.mutations);
    EXPECT_EQ(after.task(TaskId(1)).state, c.state);
    EXPECT_THAT(CheckInvariants(after), IsEmpty());
  }
}

TEST(DecideCommit, EndsCompetingLease_WhenOlderEpochWins) {
  StateBuilder builder = OneJob();
  builder.Lease(1, "w").Apply(LeaseEnded{.task = TaskId(1),
                                         .epoch = Epoch(1),
                                         .end = LeaseEnd::kLost,
                                         .to = v1::TASK_STATE_READY});
  const State state = builder.Worker("w2").Lease(1, "w2").Build();
  const State after =
      After(state, Decide(state, Envelope(FullResult())).mutations);
  const Task& task = after.task(TaskId(1));
  EXPECT_EQ(task.history->result_epoch, Epoch(1));
  EXPECT_EQ(task.history->grants[0].end, LeaseEnd::kCommitted);
  EXPECT_EQ(task.history->grants[1].end, LeaseEnd::kSuperseded);
  EXPECT_TRUE(after.FindWorker(TestWorker("w2"))->leases.empty());
}

TEST(DecideCommit, AnswersRepeatWithoutChange_WhenTaskIsDone) {
  const State state = Leased();
  const State done =
      After(state, Decide(state, Envelope(FullResult())).mutations);
  const auto again =
      Decide(done, Envelope(FullResult()), {Was(0, 0), Was(0, 1)});
  EXPECT_EQ(again.reply->outcome(), v1::COMMIT_OUTCOME_ALREADY_COMMITTED);
  EXPECT_THAT(again.mutations, IsEmpty());
}

TEST(DecideCommit, ComparesToTheLastBit_WhenAnotherResultIsStored) {
  const State state = Leased();
  const State done =
      After(state, Decide(state, Envelope(FullResult())).mutations);
  for (const auto& [nll_sum, differing] :
       {std::pair(2.5, size_t{0}),
        std::pair(std::nextafter(2.5, 3), size_t{2})}) {
    v1::TaskResult result = FullResult(nll_sum);
    result.mutable_report()->set_run_seconds(3);  // another payload
    const auto decision =
        Decide(done, Envelope(result), {Was(0, 0), Was(0, 1)});
    EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_SUPERSEDED);
    const auto duplicates = Only<DuplicateRecorded>(decision.mutations);
    ASSERT_EQ(duplicates.size(), 1u);
    EXPECT_EQ(duplicates[0].num_compared, 2);
    EXPECT_EQ(duplicates[0].differing.size(), differing);
    EXPECT_EQ(EventsOf(decision.mutations).size(), differing > 0 ? 1u : 0u);
    EXPECT_THAT(Only<ResultCommitted>(decision.mutations), IsEmpty());
  }
}

TEST(DecideCommit, TellsTheComputeThatItsNoiseIsOf) {
  v1::TaskResult result = FullResult();
  v1::NoiseFloor& noise = *result.mutable_report()->mutable_noise();
  noise.set_nll_per_token(2e-3);
  noise.set_documents(1);
  noise.set_tokens(9);
  const State state = StateBuilder()
                          .Job({.compute = v1::COMPUTE_BF16})
                          .Task()
                          .Worker("w", {.computes = {v1::COMPUTE_BF16}})
                          .Lease(1, "w")
                          .Build();
  const auto decision = Decide(state, Envelope(result));
  EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
  const auto results = Only<ResultCommitted>(decision.mutations);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].compute, Compute::kBf16);
  EXPECT_EQ(results[0].report.noise().nll_per_token(), 2e-3);
}

TEST(DecideCommit, KeepsStoredRow_WhenAKeyIsMeasuredAlready) {
  const State state = Leased();
  const auto decision =
      Decide(state, Envelope(FullResult()), {Was(0, 0, 9.0), std::nullopt});
  EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
  const auto results = Only<ResultCommitted>(decision.mutations);
  ASSERT_EQ(results.size(), 1u);
  ASSERT_EQ(results[0].rows.size(), 1u);
  EXPECT_EQ(results[0].rows[0].document, TestDigest("d2"));
  const auto duplicates = Only<DuplicateRecorded>(decision.mutations);
  ASSERT_EQ(duplicates.size(), 1u);
  EXPECT_EQ(duplicates[0].differing.size(), 1u);
  After(state, decision.mutations);  // events are numbered without a gap
}

TEST(DecideCommit, RaisesTheAlarm_WhenCodesAreOthersThanThoseOfStoredRows) {
  const Digest ours = TestDigest("ours");
  const Digest theirs = TestDigest("theirs");
  v1::TaskResult result = FullResult();
  for (v1::Measurement& row : *result.mutable_rows()) {
    row.set_codes(ours.bytes());
  }
  const auto events = [&](const std::vector<Digest>& known) {
    const auto decision =
        Decide(Leased(), Envelope(result), Stored(2), {}, {}, known);
    EXPECT_EQ(decision.reply->outcome(), v1::COMMIT_OUTCOME_OK);
    After(Leased(), decision.mutations);
    return EventsOf(decision.mutations);
  };
  const auto quiet = ElementsAre("1:task_done", "1:job_succeeded");
  EXPECT_THAT(events({}), quiet);
  EXPECT_THAT(events({theirs, ours}), quiet);
  EXPECT_THAT(events({theirs}), ElementsAre("1:determinism_alarm",
                                            "1:task_done", "1:job_succeeded"));
}

TEST(DecideCommit, KeepsARowAsDiffering_WhenOnlyItsCodesDiffer) {
  const State state = Leased();
  const State done =
      After(state, Decide(state, Envelope(FullResult())).mutations);
  v1::TaskResult result = FullResult();
  result.mutable_rows(1)->set_codes(TestDigest("codes").bytes());
  const auto decision = Decide(done, Envelope(result), {Was(0, 0), Was(0, 1)});
  const auto duplicates = Only<DuplicateRecorded>(decision.mutations);
  ASSERT_EQ(duplicates.size(), 1u);
  ASSERT_EQ(duplicates[0].differing.size(), 1u);
  EXPECT_EQ(duplicates[0].differing[0].document, TestDigest("d2"));
}

// As a late result of another calibration has both.
TEST(DecideCommit, RaisesOneAlarm_WhenRowsAndCodesDiffer) {
  const State done =
      After(Leased(), Decide(Leased(), Envelope(FullResult())).mutations);
  v1::TaskResult result = FullResult(2.75);
  for (v1::Measurement& row : *result.mutable_rows()) {
    row.set_codes(TestDigest("ours").bytes());
  }
  const std::vector<Digest> known = {TestDigest("theirs")};
  const auto late =
      Decide(done, Envelope(result), {Was(0, 0), Was(0, 1)}, {}, {}, known);
  EXPECT_THAT(EventsOf(late.mutations), ElementsAre("1:determinism_alarm"));
  const auto events = Only<EventAppended>(late.mutations);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].event->reason(),
            "2 of 2 repeated measurements differ; other codes of 1 "
            "configurations than stored rows have");
  const auto first = Decide(Leased(), Envelope(result),
                            {Was(0, 0), std::nullopt}, {}, {}, known);
  EXPECT_THAT(
      EventsOf(first.mutations),
      ElementsAre("1:determinism_alarm", "1:task_done", "1:job_succeeded"));
}

Settings AuditAll() {
  Settings settings;
  settings.audit_rate = 1;
  return settings;
}

TEST(DecideCommit, HasAnotherWorkerMeasureAgain_WhenTheTaskIsDrawn) {
  const State leased = OneJob().Worker("v").Lease(1, "w").Build();
  auto decision =
      Decide(leased, Envelope(FullResult()), Stored(2), {}, AuditAll());
  EXPECT_THAT(EventsOf(decision.mutations),
              ElementsAre("1:task_done", "1:task_audit"));
  State state = After(leased, decision.mutations);
  const Task& audit = state.task(TaskId(2));
  EXPECT_EQ(audit.history->audit_of, TaskId(1));
  EXPECT_EQ(audit.documents.size(), 2u);
  EXPECT_EQ(state.job(JobNumber(1)).measurements_done, 2);
  EXPECT_FALSE(state.job(JobNumber(1)).terminal());
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  // Nobody vouches for himself.
  const auto pick = [&state](const std::string& worker) {
    return PickTask(state, *state.FindWorker(TestWorker(worker)), Settings(),
                    TestNow());
  };
  EXPECT_FALSE(pick("w").has_value());
  ASSERT_TRUE(pick("v").has_value());
  EXPECT_EQ(pick("v")->task, TaskId(2));
  state = After(
      state,
      DecideLease(state, TestWorker("v"), AuditAll(), TestNow()).mutations);
  v1::ResultEnvelope envelope = Envelope(FullResult(3.0));
  envelope.set_task_id(2);
  envelope.set_content_key(state.task(TaskId(2)).content_key.bytes());
  decision = Decide(state, envelope, {Was(0, 0), Was(0, 1)}, {}, AuditAll());
  EXPECT_THAT(
      EventsOf(decision.mutations),
      ElementsAre("1:determinism_alarm", "1:task_done", "1:job_succeeded"));
  EXPECT_THAT(CheckInvariants(After(state, decision.mutations)), IsEmpty());
}

TEST(DecideCommit, AuditsNothing_WhenNobodyElseCould) {
  const Settings settings = AuditAll();
  const auto events = [&](const State& state) {
    return EventsOf(
        Decide(state, Envelope(FullResult()), Stored(2), {}, settings)
            .mutations);
  };
  const auto without = ElementsAre("1:task_done", "1:job_succeeded");
  EXPECT_THAT(events(Leased()), without);
  EXPECT_THAT(events(OneJob()
                         .Worker("v", {.evaluations = {"hf-text"}})
                         .Lease(1, "w")
                         .Build()),
              without);
  EXPECT_THAT(
      events(OneJob().Worker("v", {.draining = true}).Lease(1, "w").Build()),
      without);
}

TEST(DecideCommit, DrawsAuditsByRateAndSeed) {
  const State state = OneJob().Worker("v").Lease(1, "w").Build();
  int drawn = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Settings settings;
    settings.audit_rate = 0.25;
    settings.audit_seed = seed * 0x9e3779b97f4a7c15;
    drawn += Only<TaskAdded>(
                 Decide(state, Envelope(FullResult()), Stored(2), {}, settings)
                     .mutations)
                     .empty()
                 ? 0
                 : 1;
  }
  EXPECT_GT(drawn, 200);
  EXPECT_LT(drawn, 300);
}

TEST(SameMeasurement, SeesEveryFieldOfTheDocument_NotThoseOfItsCorpus) {
  const auto differs = [](void (*change)(v1::Measurement&)) {
    v1::Measurement changed = Row(0, 0);
    change(changed);
    return !SameMeasurement(Row(0, 0), changed);
  };
  EXPECT_TRUE(SameMeasurement(Row(0, 0), Row(3, 4)));
  EXPECT_TRUE(differs([](auto& m) { m.set_status(v1::ROW_STATUS_EMPTY); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_nll_fp_sum(0); }));
  EXPECT_FALSE(differs([](auto& m) { m.set_unigram_nll_sum(-0.0); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_tokens(8); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_bytes(1); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_bytes_scored(1); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_chars(1); }));
  EXPECT_TRUE(differs([](auto& m) { m.clear_kl_sum(); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_top1(5); }));
  EXPECT_TRUE(differs([](auto& m) { m.set_nonfinite(1); }));
}

TEST(Repeats, ToTheLastBitOnOneTypeOfMachine_ElseWithinTheNoise) {
  struct Machine {
    std::string engine = "qengine 1";
    std::string device = "cuda:0 Tesla T4";
  };
  const StoredRow stored{.values = Row(0, 0, 2.5),
                         .engine = "qengine 1",
                         .device = "cuda:0 Tesla T4"};
  const auto repeats = [&stored](const v1::Measurement& row,
                                 const Machine& machine,
                                 Compute compute = Compute::kFp32) {
    v1::TaskReport report;
    report.set_engine(machine.engine);
    report.set_device(machine.device);
    return Repeats(row, report, stored, compute);
  };
  const std::vector<Machine> others = {
      {.engine = "qengine 2"}, {.device = "cuda:0 A100"}, {.device = "cpu"}};
  const v1::Measurement near = Row(0, 0, 2.5 * (1 + 0.9e-4));
  EXPECT_TRUE(repeats(Row(0, 0, 2.5), {}));
  EXPECT_TRUE(repeats(Row(0, 0, 2.5), {.device = "cuda:3 Tesla T4"}));
  EXPECT_FALSE(repeats(near, {}));
  EXPECT_FALSE(repeats(near, {}, Compute::kBf16));
  EXPECT_FALSE(repeats(near, {.device = "cuda:3 Tesla T4"}));
  v1::Measurement one_choice = Row(0, 0, 2.5);
  one_choice.set_top1(5);
  v1::Measurement two_choices = one_choice;
  two_choices.set_top1(4);
  v1::Measurement another_text = Row(0, 0, 2.5);
  another_text.set_tokens(8);
  v1::Measurement infinite = Row(0, 0, 2.5);
  infinite.set_nonfinite(1);
  for (const Machine& other : others) {
    EXPECT_TRUE(repeats(near, other)) << other.engine << other.device;
    EXPECT_TRUE(repeats(one_choice, other));
    EXPECT_FALSE(repeats(Row(0, 0, 2.5 * (1 + 1.1e-4)), other));
    EXPECT_FALSE(repeats(two_choices, other));
    EXPECT_FALSE(repeats(another_text, other));
    EXPECT_FALSE(repeats(infinite, other));
    const Compute bf16 = Compute::kBf16;
    EXPECT_TRUE(repeats(Row(0, 0, 2.5 * (1 + 1.9e-3)), other, bf16));
    EXPECT_FALSE(repeats(Row(0, 0, 2.5 * (1 + 2.1e-3)), other, bf16));
  }
}

// Seven tokens: 1e-3 of the KL and 7e-5, and 0.1 and 7e-3 where products read
// less; the NLL, 2.5, has no say.
TEST(Repeats, MeasuresTheKlOnAScaleOfItsOwn) {
  struct Case {
    const char* name;
    Compute compute;
    double stored;
    double near;
    double far;
  };
  for (const Case& c :
       {Case{"share", Compute::kFp32, 0.5, 0.50056, 0.50058},
        Case{"share, below", Compute::kFp32, 0.5, 0.49944, 0.49942},
        Case{"nats", Compute::kFp32, 0, 7.00e-5, 7.02e-5},
        Case{"bf16, share", Compute::kBf16, 0.5, 0.562, 0.565},
        Case{"bf16, nats", Compute::kBf16, 0, 7.7e-3, 7.8e-3}}) {
    SCOPED_TRACE(c.name);
    const auto repeats = [&c](double kl_sum) {
      StoredRow stored = Was(0, 0);
      stored.engine = "qengine 1";
      stored.values.set_kl_sum(c.stored);
      v1::Measurement row = Row(0, 0, 2.5);
      row.set_kl_sum(kl_sum);
      v1::TaskReport report;
      report.set_engine("qengine 2");
      return Repeats(row, report, stored, c.compute);
    };
    EXPECT_TRUE(repeats(c.near));
    EXPECT_FALSE(repeats(c.far));
  }
}

// The work of its jobs is done, whatever becomes of the check.
TEST(DecideCommit, FailsNoJob_WhenAnAuditFails) {
  const State leased = OneJob().Worker("v").Lease(1, "w").Build();
  State state = After(
      leased, Decide(leased, Envelope(FullResult()), Stored(2), {}, AuditAll())
                  .mutations);
  state = After(
      state,
      DecideLease(state, TestWorker("v"), AuditAll(), TestNow()).mutations);
  const auto end =
      DecideLeaseEnd(state, TaskId(2), LeaseEnd::kFailed, "out of memory",
                     /*retryable=*/false, AuditAll(), TestNow());
  EXPECT_THAT(EventsOf(end),
              ElementsAre("1:task_cancelled", "1:job_succeeded"));
  state = After(state, end);
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(state.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
}

}  // namespace
}  // namespace qsweep::testing
