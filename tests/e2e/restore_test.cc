// A backup is restored under workers that live: what they did since is unknown
// again, and its numbers are given to other tasks.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweeps.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

void ExpectOneAttemptEach(LocalCluster& cluster, const std::string& job) {
  for (const v1::TaskSummary& task : cluster.Tasks(job)) {
    EXPECT_EQ(task.epoch(), 1u) << task.ShortDebugString();
    EXPECT_EQ(task.lost(), 0u);
    EXPECT_EQ(task.failed(), 0u);
  }
}

TEST(Restore, LetsLiveWorkersMeasureAgainWhatTheBackupDoesNotHave) {
  Sweep sweep = MakeSweep(SweepKind::kFakeEngine, 2);
  sweep.cluster.worker_environment["QSWEEP_FAKE_DELAY_MS"] = "50";
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.AddCorpus("corpus", sweep.texts);
  const std::string backup = cluster.BackUp();
  cluster.StartWorker("w1", 1);
  const std::string first = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(first, kPatience));
  const std::vector<std::string> rows = cluster.Rows(first);
  EXPECT_EQ(rows.size(), sweep.num_measurements);

  ASSERT_NO_FATAL_FAILURE(cluster.Restore(backup));
  cluster.AwaitWorkers(1);
  EXPECT_EQ(cluster.QueryInteger("SELECT count(*) FROM jobs_v1"), 0);
  const std::string again = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(again, kPatience));
  ExpectOneAttemptEach(cluster, again);
  EXPECT_TRUE(cluster.Rows(again) == rows);

  // Other tasks under the same numbers.
  ASSERT_NO_FATAL_FAILURE(cluster.Restore(backup));
  cluster.AwaitWorkers(1);
  v1::JobSpec other = sweep.spec;
  other.set_quantizers(0, "rtn:bits=8,group=32");
  const std::string third = cluster.Submit(other, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(third, kPatience));
  ExpectOneAttemptEach(cluster, third);
  EXPECT_EQ(cluster.Rows(third).size(), sweep.num_measurements);
}

}  // namespace
}  // namespace qsweep::testing
