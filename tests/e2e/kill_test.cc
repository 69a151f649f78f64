// kill -9 of engines, workers and the coordinator in the middle of a sweep:
// afterwards the measurements are those of a run that nobody disturbed.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweeps.h"
#include "tests/support/real_engine.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kKillsOfEach = 7;     // 21 kill points
constexpr uint32_t kMaxFailed = 1;  // below the budgets, so that no task is
constexpr uint32_t kMaxLost = 3;    // quarantined by bad luck

enum class Victim { kEngine, kWorker, kCoordinator };

std::vector<Victim> ShuffledVictims(Random& random) {
  std::vector<Victim> victims;
  for (int i = 0; i < kKillsOfEach; ++i) {
    victims.insert(victims.end(),
                   {Victim::kEngine, Victim::kWorker, Victim::kCoordinator});
  }
  for (size_t i = victims.size() - 1; i > 0; --i) {
    std::swap(victims[i], victims[random.Below(i + 1)]);
  }
  return victims;
}

class KillTest : public ::testing::TestWithParam<SweepKind> {
 protected:
  // A task that runs now and may be hit once more.
  v1::TaskSummary AwaitRunningTask(LocalCluster& cluster,
                                   const std::string& job) {
    v1::TaskSummary found;
    const bool running = AwaitTrue(kPatience, [&] {
      for (const v1::TaskSummary& task : cluster.Tasks(job)) {
        if (task.state() == v1::TASK_STATE_LEASED &&
            task.phase() == v1::TASK_PHASE_RUN && task.failed() <= kMaxFailed &&
            task.lost() <= kMaxLost) {
          found = task;
          return true;
        }
      }
      return false;
    });
    EXPECT_TRUE(running) << "no task is running" << cluster.Logs();
    return found;
  }

  static void Kill(LocalCluster& cluster, Victim victim,
                   const std::string& worker) {
    switch (victim) {
      case Victim::kEngine:
        cluster.KillEngine(worker);
        break;
      case Victim::kWorker:
        cluster.KillWorker(worker);
        cluster.StartWorker(worker, 1);
        break;
      case Victim::kCoordinator:
        cluster.KillCoordinator();
        cluster.StartCoordinator();
        break;
    }
  }
};

// What was known at a kill.
struct KillRecord {
  Victim victim;
  uint64_t task_id;
  uint64_t epoch;
  uint64_t rows;
};

TEST_P(KillTest, MeasuresTheSame_WhenEngineWorkerAndCoordinatorAreKilled) {
  if (GetParam() == SweepKind::kRealEngine) {
    QSWEEP_SKIP_WITHOUT_ENGINE();
  }
  const Sweep sweep = MakeSweep(GetParam());
  std::vector<std::string> undisturbed;
  {
    LocalCluster cluster(sweep.cluster);
    ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
    const std::string job = SubmitSweep(cluster, sweep);
    cluster.StartWorker("w1", 1);
    cluster.StartWorker("w2", 1);
    ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, 2 * kPatience));
    undisturbed = cluster.Rows(job);
    ASSERT_EQ(undisturbed.size(), sweep.num_measurements);
  }

  Random random(20260101 + static_cast<uint64_t>(GetParam()));
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  const std::string job = SubmitSweep(cluster, sweep);
  cluster.StartWorker("w1", 1);
  cluster.StartWorker("w2", 1);
  std::vector<KillRecord> kills;
  uint64_t rows = 0;
  for (const Victim victim : ShuffledVictims(random)) {
    SCOPED_TRACE(absl::StrCat("kill ", kills.size()));
    // Rows came in since the last kill, then a random while passes.
    ASSERT_TRUE(AwaitTrue(kPatience, [&] {
      return cluster.Job(job).measurements_done() > rows;
    })) << cluster.Logs();
    AwaitTrue(absl::Milliseconds(random.Below(120)), [] { return false; });
    const v1::TaskSummary task = AwaitRunningTask(cluster, job);
    rows = cluster.Job(job).measurements_done();
    ASSERT_GT(rows, 0u);
    ASSERT_LT(rows, sweep.num_measurements) << "the sweep was too short";
    kills.push_back({victim, task.task_id(), task.epoch(), rows});
    ASSERT_NO_FATAL_FAILURE(Kill(cluster, victim, task.worker()));
  }
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, 2 * kPatience));

  std::map<uint64_t, v1::TaskSummary> tasks;
  uint64_t extra_attempts = 0;
  for (const v1::TaskSummary& task : cluster.Tasks(job)) {
    tasks[task.task_id()] = task;
    extra_attempts += task.epoch() - 1;
  }
  EXPECT_GE(kills.size(), 20u);
  // Attempts: a second kill may hit one before the coordinator knows of the
  // first.
  std::set<std::pair<uint64_t, uint64_t>> killed;
  for (const KillRecord& kill : kills) {
    EXPECT_LT(kill.rows, sweep.num_measurements);  // rows came after it
    if (kill.victim != Victim::kCoordinator &&
        tasks.at(kill.task_id).epoch() > kill.epoch) {
      killed.emplace(kill.task_id, kill.epoch);
    }
  }
  // What is seen of a task is up to a heartbeat old: on a fast machine many a
  // short one ends before the kill.
  EXPECT_GE(killed.size(), size_t{kKillsOfEach} / 2)
      << "few kills hit a running task";
  EXPECT_GE(extra_attempts, killed.size());
  EXPECT_EQ(cluster.QueryInteger("SELECT count(*) FROM events_v1 WHERE kind = "
                                 "'determinism_alarm'"),
            0);
  EXPECT_TRUE(cluster.Rows(job) == undisturbed);
}

INSTANTIATE_TEST_SUITE_P(Engines, KillTest,
                         ::testing::Values(SweepKind::kFakeEngine,
                                           SweepKind::kRealEngine),
                         [](const ::testing::TestParamInfo<SweepKind>& kind) {
                           return std::string(kind.index == 0 ? "Fake"
                                                              : "Real");
                         });

}  // namespace
}  // namespace qsweep::testing
