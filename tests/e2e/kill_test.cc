// kill -9 of engines, workers and the coordinator in the middle of a sweep:
// afterwards the measurements are those of a run that nobody disturbed.
#include <algorithm>
#include <map>
#include <set>
#include <signal.h>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweeps.h"
#include "tests/support/real_engine.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kHeartbeat = absl::Milliseconds(100);
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

// What the coordinator knows of a task is up to a heartbeat old, in which a
// fast machine ends a short one. So that a kill hits a task that runs, the
// engines stand still until their workers have said what they run.
class KillTest : public ::testing::TestWithParam<SweepKind> {
 protected:
  // Stops engines; a task that runs now and may be hit once more.
  static v1::TaskSummary AwaitHeldTask(LocalCluster& cluster,
                                       const std::string& job) {
    v1::TaskSummary found;
    EXPECT_TRUE(AwaitTrue(
        kPatience,
        [&] {
          // Not those that are about to start.
          const SteadyTime now = Clock::Real().SteadyNow();
          const std::set<std::string> workers = WorkersOf(RunningTasks(
              cluster, job, HeardSince(cluster, now - 2 * kHeartbeat)));
          if (workers.empty()) {
            return false;
          }
          SignalEngines(cluster, workers, SIGSTOP);
          const SteadyTime stopped = Clock::Real().SteadyNow();
          std::set<std::string> heard;
          AwaitTrue(3 * kHeartbeat, [&] {
            heard = HeardSince(cluster, stopped);
            return std::ranges::includes(heard, workers);
          });
          std::erase_if(heard,
                        [&](const auto& w) { return !workers.contains(w); });
          const auto tasks = RunningTasks(cluster, job, heard);
          if (tasks.empty()) {
            SignalEngines(cluster, workers, SIGCONT);
            return false;
          }
          found = tasks.front();
          return true;
        }))
        << "no task is running" << cluster.Logs();
    return found;
  }

  // From here on all but the victim goes on.
  static void Kill(LocalCluster& cluster, Victim victim,
                   const std::string& worker) {
    switch (victim) {
      case Victim::kEngine:
        cluster.KillEngine(worker);
        SignalEngines(cluster, {"w1", "w2"}, SIGCONT);
        break;
      case Victim::kWorker:
        cluster.KillWorker(worker);
        SignalEngines(cluster, {"w1", "w2"}, SIGCONT);
        cluster.StartWorker(worker, 1);
        break;
      case Victim::kCoordinator:
        cluster.KillCoordinator();
        SignalEngines(cluster, {"w1", "w2"}, SIGCONT);
        cluster.StartCoordinator();
        break;
    }
  }

 private:
  static void SignalEngines(LocalCluster& cluster,
                            const std::set<std::string>& workers, int number) {
    for (const std::string& worker : workers) {
      cluster.SignalEngine(worker, number);
    }
  }

  // The workers whose last report came after `time`.
  static std::set<std::string> HeardSince(LocalCluster& cluster,
                                          SteadyTime time) {
    const absl::Duration since = Clock::Real().SteadyNow() - time;
    std::set<std::string> heard;
    const auto response = cluster.client().ListWorkers({});
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) {
      return heard;
    }
    for (const v1::WorkerSummary& worker : response->workers()) {
      if (absl::Milliseconds(worker.last_seen_ms() + 1) < since) {
        heard.insert(worker.name());
      }
    }
    return heard;
  }

  static std::vector<v1::TaskSummary> RunningTasks(
      LocalCluster& cluster, const std::string& job,
      const std::set<std::string>& workers) {
    std::vector<v1::TaskSummary> tasks = cluster.Tasks(job);
    std::erase_if(tasks, [&](const v1::TaskSummary& task) {
      return task.state() != v1::TASK_STATE_LEASED ||
             task.phase() != v1::TASK_PHASE_RUN || task.failed() > kMaxFailed ||
             task.lost() > kMaxLost || !workers.contains(task.worker());
    });
    return tasks;
  }

  static std::set<std::string> WorkersOf(
      const std::vector<v1::TaskSummary>& tasks) {
    std::set<std::string> workers;
    for (const v1::TaskSummary& task : tasks) {
      workers.insert(task.worker());
    }
    return workers;
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
  Sweep sweep = MakeSweep(GetParam());
  sweep.cluster.heartbeat = kHeartbeat;
  std::vector<std::string> undisturbed;
  {
    LocalCluster::Options quick = sweep.cluster;
    quick.worker_environment["QSWEEP_FAKE_DELAY_MS"] = "1";  // the same rows
    LocalCluster cluster(quick);
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
    const v1::TaskSummary task = AwaitHeldTask(cluster, job);
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
  EXPECT_GE(killed.size(), size_t{kKillsOfEach})
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
