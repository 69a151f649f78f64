// qworker as a process: its flags and its signals.
#include <string>

#include <gtest/gtest.h>

#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweeps.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

TEST(Worker, FinishesASweep_ByPolls) {
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
  sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "5"}};
  sweep.cluster.worker_flags = {"--control", "poll"};
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w1", 1);
  cluster.StartWorker("w2", 1);
  const std::string job = SubmitSweep(cluster, sweep);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster.Rows(job).size(), sweep.num_measurements);
  for (const v1::TaskSummary& task : cluster.Tasks(job)) {
    EXPECT_EQ(task.epoch(), 1u);  // nothing was given up on the way
  }
}

TEST(Worker, TellsItsPrice_SoThatAttemptsHaveACost) {
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
  sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "5"}};
  sweep.cluster.worker_flags = {"--usd-per-hour", "3.6"};
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w1", 1);
  const std::string job = SubmitSweep(cluster, sweep);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster.QueryInteger(
                "SELECT count(*) FROM workers_v1 WHERE usd_per_hour = 3.6"),
            1);
  // A dollar in 1000 s.
  EXPECT_EQ(cluster.QueryInteger("SELECT count(*) FROM attempts_v1 WHERE "
                                 "abs(usd - held_seconds / 1000) > 1e-12"),
            0);
  EXPECT_GT(
      cluster.QueryInteger("SELECT count(*) FROM attempts_v1 WHERE usd > 0"),
      0);
}

TEST(Worker, LetsItsTaskEnd_WhenItIsAskedToLeave) {
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine);
  sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "2000"}};
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  const std::string job = SubmitSweep(cluster, sweep);
  cluster.StartWorker("w1", 1);
  uint64_t running = 0;
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    for (const v1::TaskSummary& task : cluster.Tasks(job)) {
      if (task.phase() == v1::TASK_PHASE_RUN) {
        running = task.task_id();
      }
    }
    return running != 0;
  })) << cluster.Logs();
  const auto status = cluster.StopWorker("w1", absl::Seconds(25));
  ASSERT_TRUE(status.has_value()) << cluster.Logs();
  EXPECT_EQ(*status, 0);
  for (const v1::TaskSummary& task : cluster.Tasks(job)) {
    if (task.task_id() == running) {
      EXPECT_EQ(task.state(), v1::TASK_STATE_DONE) << cluster.Logs();
    } else {
      EXPECT_NE(task.state(), v1::TASK_STATE_LEASED);
    }
  }
}

}  // namespace
}  // namespace qsweep::testing
