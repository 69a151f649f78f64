#include "tests/e2e/slow_watchers.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

constexpr char kQctl[] = QSWEEP_BINARY_DIR "/bin/qctl";
constexpr int kNumWorkers = 4;
constexpr int kRateTasks = 2400;
constexpr absl::Duration kJobPatience = absl::Seconds(120);

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

SlowWatchers::SlowWatchers(int tasks) : tasks_(tasks) {
  model_.Write("model", "nobody reads it");
  LocalCluster::Options options;
  options.task_seconds = 1e-6;  // so small that each document is a task
  cluster_ = std::make_unique<LocalCluster>(options);
}

SlowWatchers::~SlowWatchers() = default;

void SlowWatchers::Start() {
  ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
  std::map<std::string, std::vector<std::string>> texts;
  for (const char* language : {"deu", "eng", "fra"}) {
    for (int unit = 0; unit < tasks_ / 3; ++unit) {
      texts[language].push_back(
          absl::StrCat("Article ", unit, " in ", language, "."));
    }
  }
  cluster_->AddCorpus("corpus", texts);
}

std::string SlowWatchers::SubmitJob() {
  constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
  v1::JobSpec spec;
  spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec.set_name(absl::StrCat("job-", jobs_));
  spec.add_models()->set_path(model_ / "model");
  spec.add_quantizers(
      absl::StrCat("rtn:bits=", kBits[jobs_ % 6], ",group=", 8 << (jobs_ / 6)));
  ++jobs_;
  spec.set_corpus("corpus");
  spec.set_reference("eng");
  return cluster_->Submit(
      spec, ToProto(LlamaDescription("fake", {.layers = 2, .hidden = 64})));
}

void SlowWatchers::StopWatchers(const std::string& job, int count) {
  std::vector<std::string> logs;
  for (int i = 0; i < count; ++i) {
    logs.push_back(absl::StrCat(cluster_->path(), "/watch-", logs_++));
    watchers_.push_back(ChildProcess::Start(
        {.argv = {kQctl, "watch", job.substr(job.find('/') + 1), "--server",
                  cluster_->endpoint().address},
         .environment = {{"XDG_CONFIG_HOME", cluster_->path()}},
         .log_path = logs.back()}));
  }
  std::error_code error;
  for (size_t i = 0; i < logs.size(); ++i) {
    ASSERT_TRUE(AwaitTrue(
        kJobPatience,
        [&] { return std::filesystem::file_size(logs[i], error) > 0; }))
        << "watcher " << i << " says nothing";
    watchers_[i]->Signal(SIGSTOP);
  }
}

void SlowWatchers::ContinueWatchers() {
  for (const auto& watcher : watchers_) {
    watcher->Signal(SIGCONT);
  }
  for (const auto& watcher : watchers_) {
    EXPECT_EQ(watcher->Wait(kJobPatience), 0) << "it did not see the end";
  }
  watchers_.clear();
}

double SlowWatchers::Work(const std::string& job) {
  const SteadyTime began = Clock::Real().SteadyNow();
  std::vector<std::unique_ptr<RecordingWorker>> workers;
  for (int i = 0; i < kNumWorkers; ++i) {
    workers.push_back(std::make_unique<RecordingWorker>(
        cluster_->endpoint(), absl::Milliseconds(250), absl::ZeroDuration(),
        static_cast<uint64_t>(i), ledger_));
  }
  cluster_->AwaitSuccess(job, kJobPatience);
  for (const std::string& problem : ledger_.problems()) {
    ADD_FAILURE() << problem;
  }
  return tasks_ / absl::ToDoubleSeconds(Clock::Real().SteadyNow() - began);
}

void CompareRates(int watchers, int turns) {
  SlowWatchers load(kRateTasks);
  ASSERT_NO_FATAL_FAILURE(load.Start());
  std::vector<double> without;
  std::vector<double> with;
  for (int turn = 0; turn < turns; ++turn) {
    without.push_back(load.Work(load.SubmitJob()));
    const std::string job = load.SubmitJob();
    ASSERT_NO_FATAL_FAILURE(load.StopWatchers(job, watchers));
    with.push_back(load.Work(job));
    load.KillWatchers();
    std::printf(
        "turn %d: %.0f tasks/s without, %.0f with %d stopped watchers\n",
        turn + 1, without.back(), with.back(), watchers);
    std::fflush(stdout);
  }
  std::printf("ratio of the medians: %.3f\n", Median(with) / Median(without));
}

}  // namespace qsweep::testing
