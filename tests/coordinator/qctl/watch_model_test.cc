#include "coordinator/qctl/watch_model.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::qctl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1000);
const WatchModel::Row kNone{"nf4", "none"};
const WatchModel::Row kL2{"nf4", "L2"};

v1::JobSummary Summary(uint64_t done) {
  v1::JobSummary job;
  job.set_measurements_total(100);
  job.set_measurements_done(done);
  job.set_tasks_total(4);
  return job;
}

v1::TaskProgressFrame Frame(uint64_t task, uint64_t epoch, double nll) {
  v1::TaskProgressFrame frame;
  frame.set_task_id(task);
  frame.set_epoch(epoch);
  frame.mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
  frame.mutable_progress()->set_fraction(0.5);
  for (const char* layer_set : {"all", "none", "L10", "L2"}) {
    v1::PartialMetric& metric = *frame.mutable_progress()->add_partial();
    metric.set_configuration_index(
        static_cast<uint32_t>(frame.layer_sets_size()));
    frame.add_layer_sets(layer_set);
    frame.add_quantizers("nf4");
    metric.set_language("eng");
    metric.set_nll_sum(nll);
    metric.set_nll_fp_sum(10);
    metric.set_tokens(10);
  }
  return frame;
}

v1::DurableEvent Event(uint64_t task, const char* kind) {
  v1::DurableEvent event;
  event.set_task_id(task);
  event.set_kind(kind);
  return event;
}

TEST(WatchModel, OrdersLayersByNumber_AndLeavesOutTheBaseline) {
  WatchModel model(kStart);
  model.Add(Frame(1, 1, 20));
  EXPECT_THAT(model.rows(),
              ElementsAre(kNone, kL2, WatchModel::Row{"nf4", "L10"}));
  EXPECT_THAT(model.languages(), ElementsAre("eng"));
}

TEST(WatchModel, AddsUpTasks_AndKeepsWhatIsDone) {
  WatchModel model(kStart);
  model.Add(Frame(1, 1, 20));
  model.Add(Event(1, "task_done"));
  model.Add(Frame(2, 1, 40));
  EXPECT_EQ(model.DeltaNll(kNone, "eng"), 2.0);  // (20 + 40 - 2 * 10) / 20
  EXPECT_EQ(model.DeltaNll(kNone, "arb"), std::nullopt);
}

TEST(WatchModel, DropsAnAttempt_WhenItEndedWithoutAResult) {
  WatchModel model(kStart);
  model.Add(Frame(1, 1, 20));
  model.Add(Event(1, "task_lost"));
  EXPECT_THAT(model.rows(), IsEmpty());
  EXPECT_TRUE(model.running().empty());
}

TEST(WatchModel, IgnoresFramesOfAReplacedAttempt) {
  WatchModel model(kStart);
  model.Add(Frame(1, 2, 20));
  model.Add(Frame(1, 1, 90));
  EXPECT_EQ(model.DeltaNll(kNone, "eng"), 1.0);
}

TEST(WatchModel, FillsEveryColumnFromStoredRows_AndCountsNoTaskTwice) {
  WatchModel model(kStart);
  model.SetLanguages({"swh", "eng", "arb"});
  EXPECT_THAT(model.languages(), ElementsAre("swh", "eng", "arb"));
  model.Add(Frame(1, 1, 20));
  model.Add(Event(1, "task_done"));
  model.Add(Frame(2, 1, 40));
  // The rows of task 1; task 2 is still at its worker.
  model.SetStored({{kNone, "eng", 20, 10, 10}, {kNone, "swh", 16, 10, 4}});
  EXPECT_EQ(model.DeltaNll(kNone, "eng"), 2.0);
  EXPECT_EQ(model.DeltaNll(kNone, "swh"), 1.5);
  EXPECT_EQ(model.DeltaNll(kNone, "arb"), std::nullopt);
  EXPECT_EQ(model.DeltaNll(kL2, "eng"), 3.0);  // of task 2 alone
  EXPECT_THAT(model.languages(), ElementsAre("swh", "eng", "arb"));
}

TEST(WatchModel, AddsUpModels_AndKeepsQuantizersApart) {
  WatchModel model(kStart);
  v1::TaskProgressFrame frame = Frame(1, 1, 20);
  frame.set_layer_sets(2, "none");
  for (int i = 0; i < 2; ++i) {  // a frame replaces the one before
    model.Add(frame);
  }
  frame.mutable_progress()->mutable_partial(1)->set_nll_sum(40);
  model.Add(frame);
  EXPECT_EQ(model.DeltaNll(kNone, "eng"), 2.0);
  frame.set_quantizers(2, "hqq");
  model.Add(frame);
  const WatchModel::Row other{"hqq", "none"};
  EXPECT_THAT(model.rows(), ElementsAre(other, kNone, kL2));
  EXPECT_EQ(model.DeltaNll(kNone, "eng"), 3.0);
  EXPECT_EQ(model.DeltaNll(other, "eng"), 1.0);
}

TEST(WatchModel, CountsRunningTasksAsProgress_AndReckonsTheTimeLeft) {
  WatchModel model(kStart);
  EXPECT_EQ(model.Remaining(kStart), std::nullopt);
  model.SetSummary(Summary(20));
  EXPECT_EQ(model.Remaining(kStart + absl::Seconds(1)), std::nullopt);
  model.Add(Frame(1, 1, 20));  // half of one of four tasks
  model.SetSummary(Summary(40));
  EXPECT_DOUBLE_EQ(model.Progress(), 0.4 + 0.6 * 0.125);
  // 27.5 points in 55 s, 52.5 points to go.
  EXPECT_NEAR(
      absl::ToDoubleSeconds(*model.Remaining(kStart + absl::Seconds(55))), 105,
      1e-9);
}

}  // namespace
}  // namespace qsweep::qctl
