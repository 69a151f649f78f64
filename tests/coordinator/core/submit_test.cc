#include "coordinator/core/submit.h"

#include <cmath>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/cancel.h"
#include "coordinator/core/retry.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// 4 configurations x 2 languages x 3 units.
constexpr int kUnits = 3;
constexpr int64_t kMeasurements = 24;

PreparedSubmit Prepare(const SweepOptions& options = {}, bool dry_run = false) {
  v1::SubmitJobRequest request = SweepRequest(options);
  request.set_dry_run(dry_run);
  return *PrepareSubmit(
      request, std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus));
}

std::vector<PanelStatuses> Measured(const PreparedSubmit& prepared,
                                    v1::RowStatus status) {
  std::vector<PanelStatuses> measured;
  for (const SubmitPanel& panel : prepared.panels) {
    measured.emplace_back(panel.configurations.size() * panel.documents.size(),
                          status);
  }
  return measured;
}

Decision<v1::SubmitJobResponse> Decide(
    const State& state, const PreparedSubmit& prepared,
    v1::RowStatus status = v1::ROW_STATUS_UNSPECIFIED) {
  return DecideSubmit(state, prepared, Measured(prepared, status), kSettings,
                      TestNow());
}

State Submitted(const State& state, const SweepOptions& options) {
  const State after = After(state, Decide(state, Prepare(options)).mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  return after;
}

TEST(PrepareSubmit, CountsEachDocumentsOwnBytes) {
  std::vector<LanguageText> languages(2);
  size_t bytes = 35;
  for (size_t l = 0; l < languages.size(); ++l) {
    languages[l].corpus.set_language(l == 0 ? "eng" : "swh");
    for (const char* id : {"1", "2"}) {
      v1::Document& document = *languages[l].corpus.add_documents();
      document.set_id(id);
      document.set_text(std::string(bytes, id[0] + static_cast<char>(l)));
      bytes *= 7;
    }
  }
  v1::SubmitJobRequest request = SweepRequest();
  request.mutable_spec()->mutable_evals(0)->set_max_tokens(1000);
  const auto prepared = PrepareSubmit(
      request, std::make_shared<v1::Corpus>(
                   MakeCorpus("c", std::move(languages), {})->corpus));
  QSWEEP_ASSERT_OK(prepared);
  std::vector<double> tokens;
  for (const PlanDocument& document : prepared->panels.at(0).documents) {
    tokens.push_back(document.tokens);
  }
  // By unit; the last one is skipped after so many.
  EXPECT_THAT(tokens, ElementsAre(10, 490, 70, 1000));
}

TEST(PrepareSubmit, SizesDocumentsByTheRatesOfTheRequest) {
  v1::SubmitJobRequest request = SweepRequest();
  const auto prepare = [&request] {
    return PrepareSubmit(request,
                         std::make_shared<v1::Corpus>(SmallCorpus(1).corpus));
  };
  const auto by_default = prepare();
  QSWEEP_ASSERT_OK(by_default);
  v1::TokenRate& rate = *request.add_token_rates();
  rate.set_language("swh");
  rate.set_bytes_per_token(0.5);
  const auto with_rate = prepare();
  QSWEEP_ASSERT_OK(with_rate);
  // eng, swh: the first keeps 3.5 bytes a token.
  const auto& before = by_default->panels.at(0).documents;
  const auto& after = with_rate->panels.at(0).documents;
  ASSERT_THAT(after, SizeIs(2));
  EXPECT_EQ(after[0].tokens, before[0].tokens);
  EXPECT_DOUBLE_EQ(after[1].tokens, 7 * before[1].tokens);

  for (const double bytes : {0.0, -1.0, 1001.0, std::nan("")}) {
    rate.set_bytes_per_token(bytes);
    EXPECT_EQ(CodeOf(prepare()), "QS1004") << bytes;
    EXPECT_EQ(FieldOf(prepare()), "token_rates[0]");
  }
  rate.set_bytes_per_token(3);
  rate.set_model(1);
  EXPECT_EQ(FieldOf(prepare()), "token_rates[0]");
}

TEST(DecideSubmit, GivesTasksTheTextsOfTheirCalibrations) {
  v1::SubmitJobRequest request = SweepRequest();
  request.mutable_spec()->add_quantizers("gptq:group=4");
  v1::CalibrationRequest& calibration =
      *request.mutable_spec()->mutable_calibration();
  calibration.set_corpus("more");
  calibration.add_languages("swh");
  calibration.set_samples(2);
  const auto corpus = std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus);
  const auto more = std::make_shared<v1::Corpus>(SmallCorpus(40).corpus);
  const auto prepared = PrepareSubmit(request, corpus, more);
  QSWEEP_ASSERT_OK(prepared);
  EXPECT_EQ(prepared->spec->calibration().corpus_digest(), more->digest());
  // The same submit, once the coordinator knows the corpus.
  v1::SubmitJobRequest stored = request;
  *stored.mutable_spec() = *prepared->spec;
  EXPECT_EQ(SubmitDigest(stored), SubmitDigest(request));

  const State state = StateBuilder().Build();
  const State after = After(state, Decide(state, *prepared).mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  const v1::TaskSpec& spec = *after.group(TaskGroupId(1)).prototype;
  ASSERT_EQ(spec.languages_size(), 3);  // eng, swh, and swh of the other corpus
  EXPECT_EQ(spec.languages(2).language(), "swh");
  EXPECT_EQ(spec.languages(2).artifact_digest(),
            more->languages(1).artifact_digest());
  ASSERT_EQ(spec.calibrations_size(), 1);
  ASSERT_EQ(spec.calibrations(0).documents_size(), 2);
  std::vector<Digest> digests;
  for (const v1::TaskDocument& document : spec.calibrations(0).documents()) {
    EXPECT_EQ(document.language_index(), 2u);
    digests.push_back(*Digest::FromBytes(document.digest()));
  }
  EXPECT_EQ(CalibrationTexts(digests),
            prepared->expansion.calibrations[0].texts);
}

TEST(PrepareSubmit, SizesCalibrationTextsByRate_CutToTheContext) {
  v1::SubmitJobRequest request = SweepRequest();
  request.mutable_spec()->set_quantizers(0, "awq:group=4");
  v1::CalibrationRequest& calibration =
      *request.mutable_spec()->mutable_calibration();
  calibration.set_corpus("more");
  calibration.add_languages("swh");
  calibration.set_samples(2);
  const auto tokens = [&request] {
    const auto prepared = PrepareSubmit(
        request, std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus),
        std::make_shared<v1::Corpus>(SmallCorpus(40).corpus));
    QSWEEP_EXPECT_OK(prepared);
    return prepared->calibration_tokens.at(0).at(
        prepared->expansion.calibrations.at(0).texts);
  };
  const double by_default = tokens();
  EXPECT_GT(by_default, 0);
  v1::TokenRate& rate = *request.add_token_rates();
  rate.set_language("swh");
  rate.set_bytes_per_token(0.5);  // 3.5 where it is not known
  EXPECT_DOUBLE_EQ(tokens(), 7 * by_default);
  rate.set_bytes_per_token(1e-6);
  EXPECT_DOUBLE_EQ(tokens(), 2.0 * request.models(0).context_length());
}

TEST(DecideSubmit, SaysHowLongCalibrationTakes_WhereCodesAreToBeMade) {
  const auto corpus = std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus);
  const auto more = std::make_shared<v1::Corpus>(SmallCorpus(40).corpus);
  const auto seconds = [&](const State& state, const std::string& quantizer,
                           int num_quantizers, uint32_t samples) {
    v1::SubmitJobRequest request = SweepRequest();
    request.mutable_spec()->clear_quantizers();
    for (int i = 0; i < num_quantizers; ++i) {
      request.mutable_spec()->add_quantizers(quantizer +
                                             (i > 0 ? ",sym=0" : ",sym=1"));
    }
    if (samples > 0) {
      v1::CalibrationRequest& calibration =
          *request.mutable_spec()->mutable_calibration();
      calibration.set_corpus("more");
      calibration.set_samples(samples);
    }
    const auto prepared = PrepareSubmit(request, corpus, more);
    QSWEEP_EXPECT_OK(prepared);
    const auto decision = Decide(state, *prepared);
    QSWEEP_EXPECT_OK(decision.reply);
    return decision.reply->plan().calibration_seconds();
  };
  StateBuilder with_worker;
  with_worker.Worker("w");
  const State state = with_worker.Build();
  EXPECT_EQ(seconds(state, "rtn:group=4", 1, 0), 0);
  EXPECT_EQ(seconds(StateBuilder().Build(), "gptq:group=4", 1, 4), 0);
  const double gptq = seconds(state, "gptq:group=4", 1, 4);
  EXPECT_GT(gptq, 0);
  EXPECT_DOUBLE_EQ(seconds(state, "gptq:group=4", 2, 4), 2 * gptq);
  const double awq = seconds(state, "awq:group=4", 1, 4);
  EXPECT_GT(awq, gptq);
  // AWQ's time is that of the texts alone.
  EXPECT_GT(seconds(state, "awq:group=4", 1, 8), 1.9 * awq);
}

TEST(DecideSubmit, MakesTasksForAll_WhenNothingIsMeasured) {
  const State state = StateBuilder().Build();
  const auto decision = Decide(state, Prepare());
  QSWEEP_ASSERT_OK(decision.reply);
  EXPECT_EQ(decision.reply->job_number(), 1u);
  const v1::JobPlan& plan = decision.reply->plan();
  EXPECT_EQ(plan.measurements(), static_cast<uint64_t>(kMeasurements));
  EXPECT_EQ(plan.measurements_reused(), 0u);
  EXPECT_EQ(plan.tasks(), 1u);
  EXPECT_EQ(plan.layer_evaluations_naive(), 8u);
  EXPECT_EQ(plan.layer_evaluations(), 6u);
  EXPECT_THAT(EventsOf(decision.mutations),
              ElementsAre("1:job_submitted", "1:job_queued"));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  const v1::TaskSpec spec = after.MakeTaskSpec(after.task(TaskId(1)));
  EXPECT_EQ(spec.configurations_size(), 4);
  EXPECT_EQ(spec.documents_size(), 6);
  EXPECT_EQ(spec.languages_size(), 2);
  EXPECT_EQ(spec.model().path(), "/models/tiny-llama-2");
}

TEST(DecideSubmit, ChangesNothing_WhenDry) {
  const auto decision =
      Decide(StateBuilder().Build(), Prepare({}, /*dry_run=*/true));
  EXPECT_THAT(decision.mutations, IsEmpty());
  EXPECT_EQ(decision.reply->job_number(), 0u);
  EXPECT_EQ(decision.reply->plan().tasks(), 1u);
}

TEST(DecideSubmit, SucceedsAtOnce_WhenEverythingIsMeasured) {
  const State state = StateBuilder().Build();
  const auto decision = Decide(state, Prepare(), v1::ROW_STATUS_OK);
  EXPECT_EQ(decision.reply->plan().measurements_reused(),
            static_cast<uint64_t>(kMeasurements));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(after.tasks(), IsEmpty());
  // A skipped document stays skipped and is said so.
  const State skipped =
      After(state, Decide(state, Prepare(), v1::ROW_STATUS_EMPTY).mutations);
  EXPECT_EQ(skipped.job(JobNumber(1)).documents_skipped, 6);
}

TEST(DecideSubmit, RunsExactlyWhatIsMissing) {
  const State state = StateBuilder().Build();
  const PreparedSubmit prepared = Prepare();
  auto measured = Measured(prepared, v1::ROW_STATUS_OK);
  measured[0][3] = v1::ROW_STATUS_UNSPECIFIED;
  const auto decision =
      DecideSubmit(state, prepared, measured, kSettings, TestNow());
  const State after = After(state, decision.mutations);
  ASSERT_THAT(after.tasks(), SizeIs(1));
  const v1::TaskSpec spec = after.MakeTaskSpec(after.task(TaskId(1)));
  ASSERT_EQ(spec.configurations_size(), 1);
  ASSERT_EQ(spec.documents_size(), 1);
  EXPECT_EQ(spec.configurations(0).layer_set(), "all");
  EXPECT_EQ(spec.documents(0).digest(),
            prepared.panels[0].documents[3].digest.bytes());
}

TEST(DecideSubmit, SharesLiveTasks_AndAddsOnlyTheRest) {
  // The first job tries L0 alone; the second all layers: three configurations
  // are on their way already.
  const State first =
      Submitted(StateBuilder().Build(), {.uuid = "a", .layer_range = "0"});
  const auto decision = Decide(first, Prepare({.uuid = "b"}));
  EXPECT_EQ(decision.reply->plan().tasks_shared(), 1u);
  EXPECT_EQ(decision.reply->plan().tasks(), 1u);
  const State second = After(first, decision.mutations);
  EXPECT_THAT(CheckInvariants(second), IsEmpty());
  EXPECT_THAT(second.task(TaskId(1)).jobs,
              ElementsAre(JobNumber(1), JobNumber(2)));
  EXPECT_EQ(second.job(JobNumber(2)).tasks.at(TaskId(1)), 18);
  EXPECT_EQ(second.job(JobNumber(2)).tasks.at(TaskId(2)), 6);
}

TEST(DecideSubmit, RunsAgainForItself_WhenReuseIsNever) {
  const State first = Submitted(StateBuilder().Build(), {.uuid = "a"});
  const PreparedSubmit again = Prepare({.uuid = "b", .reuse = v1::REUSE_NEVER});
  const auto decision = Decide(first, again, v1::ROW_STATUS_OK);
  EXPECT_EQ(decision.reply->plan().measurements_reused(), 0u);
  EXPECT_EQ(decision.reply->plan().tasks_shared(), 0u);
  EXPECT_EQ(decision.reply->plan().tasks(), 1u);
  EXPECT_THAT(CheckInvariants(After(first, decision.mutations)), IsEmpty());
}

// Else its retry would lack what the other job took along.
TEST(DecideSubmit, LeavesTasksOfAJobThatReusesNothingToIt) {
  const State first = Submitted(StateBuilder().Build(),
                                {.uuid = "a", .reuse = v1::REUSE_NEVER});
  const auto decision = Decide(first, Prepare({.uuid = "b"}));
  EXPECT_EQ(decision.reply->plan().tasks_shared(), 0u);
  EXPECT_EQ(decision.reply->plan().tasks(), 1u);
}

TEST(DecideSubmit, Refuses_WhenReuseIsRequiredAndRowsAreMissing) {
  const PreparedSubmit prepared = Prepare({.reuse = v1::REUSE_REQUIRE});
  const auto missing = Decide(StateBuilder().Build(), prepared);
  EXPECT_EQ(CodeOf(missing.reply), "QS4043");
  EXPECT_THAT(missing.mutations, IsEmpty());
  QSWEEP_EXPECT_OK(
      Decide(StateBuilder().Build(), prepared, v1::ROW_STATUS_OK).reply);
}

// Others measured meanwhile, and skipped documents that it had not seen.
TEST(DecideReplan, CountsSkippedDocumentsAgain) {
  State state = Submitted(StateBuilder().Build(), {.uuid = "a"});
  ASSERT_EQ(state.job(JobNumber(1)).documents_skipped, 0);
  state = After(
      state,
      DecideCancel(state, JobNumber(1), "", Settings(), TestNow()).mutations);
  const PreparedSubmit prepared = Prepare({.uuid = "a"});
  const auto decision = DecideReplan(state, JobNumber(1), prepared,
                                     Measured(prepared, v1::ROW_STATUS_EMPTY),
                                     kSettings, TestNow());
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(after.job(JobNumber(1)).documents_skipped, 2 * kUnits);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
}

TEST(DecideSubmit, RevivesCancelledTask_WhenTheSameWorkIsNeeded) {
  State state = Submitted(StateBuilder().Build(), {.uuid = "a"});
  state.Apply(
      TaskStateChanged{.task = TaskId(1), .to = v1::TASK_STATE_CANCELLED});
  state.Apply(JobStateChanged{.job = JobNumber(1),
                              .state = v1::JOB_STATE_CANCELLED,
                              .time = TestNow().wall});
  const State after = Submitted(state, {.uuid = "b"});
  ASSERT_THAT(after.tasks(), SizeIs(1));
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_READY);
  EXPECT_THAT(after.task(TaskId(1)).jobs, ElementsAre(JobNumber(2)));
}

TEST(FindSubmitted, KnowsTheUuid_AndRefusesAnotherSpec) {
  const State state = Submitted(StateBuilder().Build(), {.uuid = "a"});
  EXPECT_EQ(*FindSubmitted(state, SweepRequest({.uuid = "b"})), nullptr);
  EXPECT_EQ((*FindSubmitted(state, SweepRequest({.uuid = "a"})))->number,
            JobNumber(1));
  EXPECT_EQ(CodeOf(FindSubmitted(
                state, SweepRequest({.uuid = "a", .layer_range = "0"}))),
            "QS4022");
  v1::SubmitJobRequest nameless = SweepRequest();
  nameless.clear_job_uuid();
  EXPECT_EQ(CodeOf(FindSubmitted(state, nameless)), "QS1004");
}

TEST(PrepareSubmit, NamesWhatIsWrong) {
  const auto corpus = std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus);
  v1::SubmitJobRequest request = SweepRequest();
  request.clear_models();
  EXPECT_EQ(CodeOf(PrepareSubmit(request, corpus)), "QS1003");
  request = SweepRequest({.layer_range = "0-9"});
  EXPECT_EQ(CodeOf(PrepareSubmit(request, corpus)), "QS1011");
  request = SweepRequest();
  request.mutable_spec()->add_languages("xyz");
  EXPECT_EQ(CodeOf(PrepareSubmit(request, corpus)), "QS2101");
}

TEST(PrepareSubmit, RefusesOneModelUnderTwoPaths) {
  v1::SubmitJobRequest request = SweepRequest();
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_kind(v1::JOB_KIND_CROSS_MODEL);
  spec.clear_layer_sets();
  spec.add_layer_sets()->set_literal("L0");
  spec.add_models()->set_path("/models/the-same-by-another-path");
  *request.add_models() = request.models(0);
  const auto refused = PrepareSubmit(
      request, std::make_shared<v1::Corpus>(SmallCorpus(kUnits).corpus));
  EXPECT_EQ(CodeOf(refused), "QS1004");
  EXPECT_EQ(FieldOf(refused), "models[1]");
}

}  // namespace
}  // namespace qsweep::testing
