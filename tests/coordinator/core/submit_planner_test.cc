#include "coordinator/core/submit_planner.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/cancel.h"
#include "coordinator/core/lists.h"
#include "coordinator/core/policy.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"
#include "tests/support/state_builder.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// 4 configurations x 2 languages x 6 units, two rows a task.
constexpr int kSweepUnits = 6;
constexpr int64_t kSweepMeasurements = 48;

Settings SlicedSettings() {
  Settings settings;
  settings.max_rows_per_task = 2;
  settings.plan_at_once_tasks = 4;
  settings.plan_slice_tasks = 4;
  return settings;
}
const Settings kSlicedSettings = SlicedSettings();

// A submit that is planned a slice at a time.
class Sliced {
 public:
  explicit Sliced(State& state, const SweepOptions& options = {},
                  const Settings& settings = kSlicedSettings)
      : Sliced(state, SweepRequest(options), settings) {}
  Sliced(State& state, const v1::SubmitJobRequest& request,
         const Settings& settings = kSlicedSettings)
      : state_(state),
        settings_(settings),
        prepared_(*PrepareSubmit(
            request,
            std::make_shared<v1::Corpus>(SmallCorpus(kSweepUnits).corpus),
            std::make_shared<v1::Corpus>(SmallCorpus(40).corpus))),
        planner_(std::make_unique<SubmitPlanner>(state, prepared_, settings_)) {
  }

  void Begin() {
    Do([](SubmitPlanner& planner, Draft& draft) { planner.Begin(draft); });
  }
  // False: that was the last.
  bool Slice(v1::RowStatus status = v1::ROW_STATUS_UNSPECIFIED) {
    const PlanSlice& slice = planner_->slices()[next_++];
    planner_->Plan(
        state_, slice,
        PanelStatuses(slice.num_configurations * slice.num_documents, status));
    Do([](SubmitPlanner& planner, Draft& draft) { planner.AddTasks(draft); });
    return next_ < planner_->slices().size();
  }
  void Activate() {
    Do([](SubmitPlanner& planner, Draft& draft) {
      planner.Activate(draft, planner.documents_skipped());
    });
  }
  // As after a restart; in how many pieces it is cleared.
  int Resume() {
    next_ = 0;
    planner_ = std::make_unique<SubmitPlanner>(state_, prepared_, settings_,
                                               state_.job(number()));
    int pieces = 0;
    bool more = true;
    while (more) {
      Do([&more](SubmitPlanner& planner, Draft& draft) {
        more = planner.Clear(draft);
      });
      ++pieces;
    }
    return pieces;
  }
  JobNumber number() const { return planner_->number(); }
  const SubmitPlanner& planner() const { return *planner_; }

 private:
  template <typename Step>
  void Do(Step step) {
    Draft draft(state_, TestNow());
    step(*planner_, draft);
    for (const Mutation& mutation : draft.Take()) {
      state_.Apply(mutation);
    }
    EXPECT_THAT(CheckInvariants(state_), IsEmpty());
  }

  State& state_;
  const Settings settings_;
  const PreparedSubmit prepared_;
  std::unique_ptr<SubmitPlanner> planner_;
  size_t next_ = 0;
};

// Keys that the job's tasks bring, counted once each.
std::set<std::pair<std::string, std::string>> KeysOf(const State& state,
                                                     JobNumber job) {
  std::set<std::pair<std::string, std::string>> keys;
  for (const auto& [id, measurements] : state.job(job).tasks) {
    const v1::TaskSpec spec = state.MakeTaskSpec(state.task(id));
    for (const auto& configuration : spec.configurations()) {
      for (const auto& document : spec.documents()) {
        keys.emplace(configuration.digest(), document.digest());
      }
    }
  }
  return keys;
}

int64_t CountedOf(const State& state, JobNumber job) {
  int64_t counted = 0;
  for (const auto& [id, measurements] : state.job(job).tasks) {
    counted += measurements;
  }
  return counted;
}

TEST(SubmitPlanner, PlansASmallSubmitAtOnce) {
  State state = StateBuilder().Build();
  const PreparedSubmit prepared = *PrepareSubmit(
      SweepRequest(), std::make_shared<v1::Corpus>(SmallCorpus(1).corpus));
  EXPECT_TRUE(SubmitPlanner(state, prepared, kSlicedSettings).at_once());
  EXPECT_FALSE(Sliced(state).planner().at_once());
}

TEST(SubmitPlanner, CutsSlicesThatHaveEachKeyOnce) {
  State state = StateBuilder().Build();
  const Sliced sliced(state);
  std::set<std::pair<size_t, size_t>> keys;
  ASSERT_GT(sliced.planner().slices().size(), 3u);
  for (const PlanSlice& slice : sliced.planner().slices()) {
    EXPECT_LE(slice.num_configurations * slice.num_documents, 8u);
    for (size_t c = 0; c < slice.num_configurations; ++c) {
      for (size_t d = 0; d < slice.num_documents; ++d) {
        EXPECT_TRUE(keys.emplace(slice.first_configuration + c,
                                 slice.first_document + d)
                        .second);
      }
    }
  }
  EXPECT_THAT(keys, SizeIs(kSweepMeasurements));
}

TEST(SubmitPlanner, ShowsNothingOfAPlanBeforeItIsWhole) {
  State state = StateBuilder().Worker("w").Build();
  Sliced sliced(state);
  sliced.Begin();
  bool more = true;
  while (more) {
    more = sliced.Slice();
    const Job& job = state.job(sliced.number());
    EXPECT_EQ(job.state, v1::JOB_STATE_PLANNING);
    EXPECT_EQ(MakeJobSummary(job).tasks_total(), 0u);
    EXPECT_EQ(ListTasks(state, {})->tasks_size(), 0);
    EXPECT_EQ(ListTasks(state, {})->total(), 0u);
    EXPECT_FALSE(PickTask(state, *state.FindWorker(TestWorker("w")),
                          kSlicedSettings, TestNow()));
  }
  sliced.Activate();
  const Job& job = state.job(sliced.number());
  EXPECT_EQ(job.state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(job.measurements_total, kSweepMeasurements);
  EXPECT_THAT(KeysOf(state, sliced.number()), SizeIs(kSweepMeasurements));
  EXPECT_EQ(CountedOf(state, sliced.number()), kSweepMeasurements);
  EXPECT_EQ(MakeJobSummary(job).tasks_total(), job.tasks.size());
  EXPECT_EQ(ListTasks(state, {})->total(), job.tasks.size());
  EXPECT_TRUE(PickTask(state, *state.FindWorker(TestWorker("w")),
                       kSlicedSettings, TestNow()));
}

TEST(SubmitPlanner, PlansNothingTwice_WhenAnotherJobComesBetween) {
  State state = StateBuilder().Build();
  Sliced large(state, {.uuid = "a"});
  large.Begin();
  large.Slice();
  // Another job wants the same: it shares the first slice's tasks and makes
  // the rest, which the slices to come share.
  Sliced other(state, {.uuid = "b"});
  other.Begin();
  while (other.Slice()) {
  }
  other.Activate();
  while (large.Slice()) {
  }
  large.Activate();
  EXPECT_EQ(KeysOf(state, large.number()), KeysOf(state, other.number()));
  EXPECT_EQ(CountedOf(state, large.number()), kSweepMeasurements);
  EXPECT_EQ(CountedOf(state, other.number()), kSweepMeasurements);
  int64_t keys = 0;
  for (const auto& [id, task] : state.tasks()) {
    keys += task.num_documents() *
            static_cast<int64_t>(state.group(task.group).configurations.size());
  }
  EXPECT_EQ(keys, kSweepMeasurements);
}

TEST(SubmitPlanner, CountsWhatIsMeasuredMeanwhileAsReused) {
  State state = StateBuilder().Build();
  Sliced sliced(state);
  sliced.Begin();
  sliced.Slice();
  const int64_t planned = CountedOf(state, sliced.number());
  while (sliced.Slice(v1::ROW_STATUS_OK)) {
  }
  sliced.Activate();
  const Job& job = state.job(sliced.number());
  EXPECT_EQ(job.measurements_reused, kSweepMeasurements - planned);
  EXPECT_EQ(job.measurements_done, kSweepMeasurements - planned);
  EXPECT_EQ(job.state, v1::JOB_STATE_QUEUED);
}

TEST(SubmitPlanner, Succeeds_WhenEverythingIsMeasured) {
  State state = StateBuilder().Build();
  Sliced sliced(state);
  sliced.Begin();
  while (sliced.Slice(v1::ROW_STATUS_EMPTY)) {
  }
  sliced.Activate();
  EXPECT_EQ(state.job(sliced.number()).state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(state.job(sliced.number()).documents_skipped, 2 * kSweepUnits);
}

TEST(SubmitPlanner, KeepsItsTasks_WhenItResumes) {
  for (const v1::Reuse reuse : {v1::REUSE_AUTO, v1::REUSE_NEVER}) {
    State state = StateBuilder().Build();
    Sliced sliced(state, {.reuse = reuse});
    sliced.Begin();
    sliced.Slice();
    sliced.Slice();
    const size_t before = state.tasks().size();
    sliced.Resume();
    sliced.Slice();
    sliced.Slice();
    EXPECT_EQ(state.tasks().size(), before);
    while (sliced.Slice()) {
    }
    sliced.Activate();
    EXPECT_EQ(CountedOf(state, sliced.number()), kSweepMeasurements);
    EXPECT_THAT(KeysOf(state, sliced.number()), SizeIs(kSweepMeasurements));
    EXPECT_EQ(sliced.planner().plan().tasks(), state.tasks().size());
  }
}

TEST(SubmitPlanner, CountsCalibrationsOfTheTasksItKeeps_WhenItResumes) {
  v1::SubmitJobRequest request = SweepRequest();
  request.mutable_spec()->set_quantizers(0, "gptq:group=4");
  request.mutable_spec()->mutable_calibration()->set_corpus("more");
  State state = StateBuilder().Worker("w").Build();
  Sliced sliced(state, request);
  sliced.Begin();
  while (sliced.Slice()) {
  }
  const double whole = sliced.planner().plan().calibration_seconds();
  EXPECT_GT(whole, 0);
  sliced.Resume();
  while (sliced.Slice()) {
  }
  EXPECT_DOUBLE_EQ(sliced.planner().plan().calibration_seconds(), whole);
}

TEST(SubmitPlanner, TriesAgainWhatWasGivenUp_WhenItResumes) {
  State state = StateBuilder().Build();
  Sliced sliced(state);
  sliced.Begin();
  sliced.Slice();
  const TaskId poison = state.job(sliced.number()).tasks.begin()->first;
  state.Apply(
      TaskStateChanged{.task = poison, .to = v1::TASK_STATE_QUARANTINED});
  sliced.Resume();
  while (sliced.Slice()) {
  }
  sliced.Activate();
  EXPECT_EQ(state.task(poison).state, v1::TASK_STATE_READY);
  EXPECT_EQ(CountedOf(state, sliced.number()), kSweepMeasurements);
  EXPECT_THAT(KeysOf(state, sliced.number()), SizeIs(kSweepMeasurements));
}

TEST(SubmitPlanner, ClearsWhatItHasInPieces_WhenItResumes) {
  State state = StateBuilder().Build();
  Sliced sliced(state);
  sliced.Begin();
  while (sliced.Slice()) {
  }
  const auto& tasks = state.job(sliced.number()).tasks;
  const size_t before = tasks.size();
  state.Apply(TaskStateChanged{.task = tasks.begin()->first,
                               .to = v1::TASK_STATE_QUARANTINED});
  const int pieces = sliced.Resume();
  EXPECT_GT(pieces, 1);
  EXPECT_LT(pieces, static_cast<int>(before));
  EXPECT_EQ(tasks.size(), before - 1);
  EXPECT_EQ(CountedOf(state, sliced.number()), 0);
}

TEST(SubmitPlanner, CutsForTheWorkersLastSeen_WhenNoneIsLive) {
  const auto gflops = [](WorkerLiveness liveness) {
    State state = StateBuilder()
                      .Worker("a", {.gflops = 1000})
                      .Worker("b", {.gflops = 500})
                      .Build();
    for (const char* name : {"a", "b"}) {
      state.Apply(
          WorkerLivenessChanged{.worker = TestWorker(name), .to = liveness});
    }
    Sliced sliced(state);
    sliced.Begin();
    sliced.Slice();
    return state.group(TaskGroupId(1)).prototype->estimated_gflops();
  };
  EXPECT_EQ(gflops(WorkerLiveness::kLive), 500);
  EXPECT_EQ(gflops(WorkerLiveness::kLost), 500);
}

TEST(SubmitPlanner, CountsAReadingOfTheWeights) {
  State state = StateBuilder().Worker("a").Build();
  Sliced sliced(state);
  sliced.Begin();
  sliced.Slice();
  const TaskGroup& group = state.group(TaskGroupId(1));
  EXPECT_EQ(group.prototype->weight_bytes(),
            static_cast<uint64_t>(TinyLlamaDescription().stored_bytes()));
  EXPECT_EQ(group.prototype->estimated_weight_bandwidth(),
            kSettings.default_weight_bandwidth);
  EXPECT_GT(state.task(TaskId(1)).estimated_seconds,
            ReadingSeconds(*group.prototype));
}

// A worker whose attempts said that they read a byte in eleven days.
double PlannedReading(size_t attempts, const Settings& settings) {
  const State empty = StateBuilder().Worker("a").Build();
  const Worker& worker = *empty.FindWorker(TestWorker("a"));
  StateSnapshot snapshot;
  snapshot.workers = {worker};
  snapshot.speeds.assign(attempts, {.model = TinyLlamaDescription().digest,
                                    .device = DeviceType(worker.devices),
                                    .weight_bandwidth = 1e-6});
  State state(std::move(snapshot));
  Sliced sliced(state, SweepOptions{}, settings);
  sliced.Begin();
  sliced.Slice();
  return ReadingSeconds(*state.group(TaskGroupId(1)).prototype);
}

TEST(SubmitPlanner, PlansNoReadingThatNoDiskTakes) {
  const double usual = PlannedReading(0, kSlicedSettings);
  EXPECT_NEAR(PlannedReading(3, kSlicedSettings), 10 * usual, usual / 100);
  EXPECT_NEAR(PlannedReading(10, kSlicedSettings), 1e4 * usual, usual);
  Settings brief = kSlicedSettings;
  brief.task_target = absl::Seconds(100 * usual);
  EXPECT_NEAR(PlannedReading(10, brief), 2500 * usual, usual);
}

TEST(SubmitPlanner, LeavesNothing_WhenItIsCancelledHalfWay) {
  State state = StateBuilder().Build();
  Sliced sliced(state);
  sliced.Begin();
  sliced.Slice();
  state = After(state,
                DecideCancel(state, sliced.number(), "", Settings(), TestNow())
                    .mutations);
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_EQ(state.num_tasks(v1::TASK_STATE_READY), 0);
  EXPECT_EQ(state.job(sliced.number()).state, v1::JOB_STATE_CANCELLED);
}

TEST(SubmitPlanner, WritesManyDocumentsInPieces) {
  State state = StateBuilder().Build();
  constexpr int kMany = 1300;  // x 2 languages: more than one piece
  const PreparedSubmit prepared =
      *PrepareSubmit(SweepRequest({.layer_range = "0"}),
                     std::make_shared<v1::Corpus>(SmallCorpus(kMany).corpus));
  SubmitPlanner planner(state, prepared, kSlicedSettings);
  Draft draft(state, TestNow());
  planner.Begin(draft);
  EXPECT_TRUE(planner.AddDocuments(draft));
  EXPECT_FALSE(planner.AddDocuments(draft));
  const std::vector<Mutation> mutations = draft.Take();
  const std::vector<JobDocument> first =
      Only<JobAdded>(mutations).at(0).documents;
  const JobDocumentsAdded rest = Only<JobDocumentsAdded>(mutations).at(0);
  EXPECT_EQ(static_cast<size_t>(rest.first_ordinal), first.size());
  EXPECT_EQ(first.size() + rest.documents.size(), size_t{2} * kMany);
  EXPECT_EQ(rest.documents.back().id, std::to_string(kMany - 1));
}

}  // namespace
}  // namespace qsweep::testing
