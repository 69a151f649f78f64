// A measurement does not depend on who computes it beside whom.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/job/checkpoint_quantizer.h"
#include "common/job/model_description_proto.h"
#include "common/job/quantizer.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweeps.h"
#include "tests/support/real_engine.h"
#include "tests/support/temp_dir.h"
#include "worker/model/checkpoint.h"

namespace qsweep::testing {
namespace {

constexpr int kUnits = 4;
constexpr absl::Duration kPatience = absl::Seconds(100);
constexpr char kAlarms[] =
    "SELECT count(*) FROM events_v1 WHERE kind = 'determinism_alarm'";

// Different codes of calibrated configurations, all but the baseline.
constexpr char kConfigurations[] =
    "SELECT count(DISTINCT codes) FROM measurements_v1 WHERE codes <> ''";
constexpr char kRowsWithoutCodes[] =
    "SELECT count(*) FROM measurements_v1 WHERE (codes = '') = "
    "(quantizer <> 'fp')";

TEST(SameRows, ToTheLastBit_WhenOneWorkerHasTwoThreadsOrTwoHaveOne) {
  QSWEEP_SKIP_WITHOUT_ENGINE();
  const Sweep sweep = MakeSweep(SweepKind::kRealEngine, kUnits);
  std::vector<std::vector<std::string>> rows;
  for (const int num_workers : {1, 2}) {
    LocalCluster::Options options = sweep.cluster;
    if (num_workers == 1) {
      options.task_seconds = 60;  // other tasks, too
    }
    LocalCluster cluster(options);
    ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
    for (int i = 0; i < num_workers; ++i) {
      cluster.StartWorker("w" + std::to_string(i), 2 / num_workers);
    }
    ASSERT_NO_FATAL_FAILURE(
        cluster.AwaitWorkers(static_cast<size_t>(num_workers)));
    const std::string job = SubmitSweep(cluster, sweep);
    ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
    rows.push_back(cluster.Rows(job));
  }
  ASSERT_EQ(rows[0].size(), sweep.num_measurements);
  EXPECT_TRUE(rows[0] == rows[1]);
}

TEST(SameRows, ToTheLastBit_WhoeverCalibrates) {
  QSWEEP_SKIP_WITHOUT_ENGINE();
  Sweep sweep = MakeSweep(SweepKind::kRealEngine, kUnits);
  sweep.spec.set_quantizers(0, "gptq:bits=3,group=32");
  sweep.spec.add_quantizers("awq:bits=3,group=32");
  sweep.spec.mutable_calibration()->set_corpus("calibration");
  sweep.spec.mutable_calibration()->add_languages("ita");
  sweep.cluster.task_seconds = 60;
  std::string long_text(120, 'i');
  long_text += " liberi ed eguali";
  const std::map<std::string, std::vector<std::string>> texts = {
      {"ita", {long_text, "in dignita"}}, {"spa", {"libres e iguales"}}};
  std::vector<std::vector<std::string>> rows;
  for (const int num_workers : {1, 2}) {
    const TempDir cache;  // of codes: empty
    LocalCluster::Options options = sweep.cluster;
    options.worker_environment["XDG_CACHE_HOME"] = cache.path();
    LocalCluster cluster(options);
    ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
    cluster.AddCorpus("calibration", texts);
    for (int i = 0; i < num_workers; ++i) {
      cluster.StartWorker("w" + std::to_string(i), 3 - num_workers);
    }
    ASSERT_NO_FATAL_FAILURE(
        cluster.AwaitWorkers(static_cast<size_t>(num_workers)));
    const std::string job = SubmitSweep(cluster, sweep);
    ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(job, kPatience));
    rows.push_back(cluster.Rows(job));
    EXPECT_TRUE(std::filesystem::exists(cache / "qsweep/codes"));
    EXPECT_EQ(cluster.QueryInteger(kConfigurations),
              2 * (sweep.model.layers() + 1));
    EXPECT_EQ(cluster.QueryInteger(kRowsWithoutCodes), 0);
    EXPECT_EQ(cluster.QueryInteger(kAlarms), 0);
  }
  ASSERT_EQ(rows[0].size(),
            sweep.num_measurements + (sweep.model.layers() + 1) * 3 * kUnits);
  EXPECT_TRUE(rows[0] == rows[1]);
}

// Starts the cluster and has one worker measure the sweep, which becomes `job`.
void MeasureOnce(const Sweep& sweep, int threads, LocalCluster& cluster,
                 std::string& job) {
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w", threads);
  job = SubmitSweep(cluster, sweep);
  cluster.AwaitSuccess(job, kPatience);
}

TEST(SameRows, DifferInNothing_WhenEverythingIsMeasuredAgain) {
  QSWEEP_SKIP_WITHOUT_ENGINE();
  Sweep sweep = MakeSweep(SweepKind::kRealEngine, kUnits);
  sweep.cluster.task_seconds = 60;
  LocalCluster cluster(sweep.cluster);
  std::string first;
  ASSERT_NO_FATAL_FAILURE(MeasureOnce(sweep, 1, cluster, first));
  const std::vector<std::string> rows = cluster.Rows(first);

  sweep.spec.mutable_policy()->set_reuse(v1::REUSE_NEVER);
  const std::string again = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(again, kPatience));
  EXPECT_GT(cluster.Job(again).tasks_done(), 0u);  // it did run
  EXPECT_EQ(cluster.QueryInteger(kAlarms), 0);
  EXPECT_TRUE(cluster.Rows(again) == rows);
}

// Pairs of rows of the quantizer and of the checkpoint made with it.
std::string CheckpointPairs(const std::string& where) {
  return "SELECT count(*) FROM measurements_v1 a JOIN measurements_v1 b "
         "USING (layer_set, lang, document) "
         "WHERE a.quantizer = 'rtn:bits=4,group=32,scale=fp16' "
         "AND b.quantizer LIKE 'checkpoint:digest=%'" +
         where;
}

TEST(SameRows, OfAConfigurationAndTheCheckpointMadeWithIt) {
  QSWEEP_SKIP_WITHOUT_ENGINE();
  Sweep sweep = MakeSweep(SweepKind::kRealEngine, kUnits);
  sweep.cluster.task_seconds = 60;
  sweep.spec.set_quantizers(0, "rtn:bits=4,group=32,scale=fp16");
  const TempDir directory;
  const std::string packed = directory / "packed";
  ASSERT_EQ(std::system(
                absl::StrCat(QSWEEP_BINARY_DIR "/bin/qengine quantize --model ",
                             sweep.spec.models(0).path(), " --out ", packed,
                             " --format gptq --quantizer ",
                             sweep.spec.quantizers(0), " >/dev/null 2>&1")
                    .c_str()),
            0);
  const auto described = [&](const std::string& path) {
    return FormatQuantizer(
        WithCheckpoint(ParseQuantizer("checkpoint:path=" + path).value(),
                       Checkpoint::Open(path).value()->Describe("").value(),
                       FromProto(sweep.model).value())
            .value());
  };
  sweep.spec.add_quantizers(described(packed));
  LocalCluster cluster(sweep.cluster);
  std::string job;
  ASSERT_NO_FATAL_FAILURE(MeasureOnce(sweep, 2, cluster, job));
  const int64_t pairs = (sweep.model.layers() + 1) * 3 * kUnits;
  EXPECT_EQ(cluster.QueryInteger(CheckpointPairs("")), pairs);
  EXPECT_EQ(cluster.QueryInteger(CheckpointPairs(
                " AND a.nll_sum = b.nll_sum AND a.kl_sum = b.kl_sum "
                "AND a.nll_fp_sum = b.nll_fp_sum AND a.top1 = b.top1")),
            pairs);
  // Somewhere else it is the same checkpoint: nothing is left to run.
  std::filesystem::copy(packed, directory / "moved");
  sweep.spec.set_quantizers(1, described(directory / "moved"));
  const std::string moved = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(moved, kPatience));
  EXPECT_EQ(cluster.Job(moved).measurements_reused(),
            cluster.Job(moved).measurements_total());
  EXPECT_EQ(cluster.QueryInteger(kAlarms), 0);
}

// Pairs of rows of two replicates that are the same in all but that.
std::string ReplicatePairs(const std::string& where) {
  return "SELECT count(*) FROM measurements_v1 a JOIN measurements_v1 b "
         "USING (layer_set, lang, document) "
         "WHERE a.quantizer = 'rtn:bits=4,group=32' "
         "AND b.quantizer = 'rtn:bits=4,group=32,replicate=1'" +
         where;
}

TEST(SameRows, OfTheBaselineServeAllReplicates_WhichDifferInTheirOwn) {
  QSWEEP_SKIP_WITHOUT_ENGINE();
  Sweep sweep = MakeSweep(SweepKind::kRealEngine, kUnits);
  sweep.cluster.task_seconds = 60;
  LocalCluster cluster(sweep.cluster);
  std::string once;
  ASSERT_NO_FATAL_FAILURE(MeasureOnce(sweep, 2, cluster, once));

  sweep.spec.set_replicates(2);
  const std::string twice = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(twice, kPatience));
  EXPECT_EQ(cluster.Job(twice).measurements_reused(), sweep.num_measurements);
  const size_t drawn = sweep.num_measurements - 3 * kUnits;
  EXPECT_EQ(cluster.Rows(twice).size(), sweep.num_measurements + drawn);
  EXPECT_EQ(cluster.QueryInteger(
                "SELECT count(*) FROM measurements_v1 WHERE quantizer = 'fp'"),
            3 * kUnits);
  EXPECT_EQ(cluster.QueryInteger(ReplicatePairs("")),
            static_cast<int64_t>(drawn));
  EXPECT_EQ(cluster.QueryInteger(ReplicatePairs(" AND a.nll_sum = b.nll_sum")),
            0);
  EXPECT_EQ(
      cluster.QueryInteger(ReplicatePairs(" AND a.nll_fp_sum = b.nll_fp_sum")),
      static_cast<int64_t>(drawn));
}

TEST(SameRows, RunNothing_WhenTheSweepIsSubmittedAgain) {
  const Sweep sweep = MakeSweep(SweepKind::kFakeEngine, kUnits);
  LocalCluster cluster(sweep.cluster);
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  cluster.StartWorker("w1", 1);
  cluster.StartWorker("w2", 1);
  const std::string first = SubmitSweep(cluster, sweep);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(first, kPatience));
  const std::string again = cluster.Submit(sweep.spec, sweep.model);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitSuccess(again, absl::Seconds(5)));
  EXPECT_EQ(cluster.Job(again).tasks_total(), 0u);
  EXPECT_EQ(cluster.Job(again).measurements_reused(), sweep.num_measurements);
  EXPECT_TRUE(cluster.Rows(again) == cluster.Rows(first));
  // And a worker that is asked to leave is gone within a second.
  const auto status = cluster.StopWorker("w1", absl::Seconds(3));
  ASSERT_TRUE(status.has_value()) << cluster.Logs();
  EXPECT_EQ(*status, 0);
}

}  // namespace
}  // namespace qsweep::testing
