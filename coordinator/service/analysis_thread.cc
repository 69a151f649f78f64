#include "coordinator/service/analysis_thread.h"

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/log.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "coordinator/service/job_results.h"
#include "coordinator/store/reader.h"

namespace qsweep {
namespace {

JobNumber NumberOf(const v1::JobSummary& job) {
  return JobNumber(static_cast<int64_t>(job.job_number()));
}

class AnalysisThreadImpl : public AnalysisThread {
 public:
  AnalysisThreadImpl(std::unique_ptr<Reader> reader, AnalysisCache& cache)
      : cache_(cache), reader_(std::move(reader)) {
    thread_ = std::thread([this] { Serve(); });
  }
  ~AnalysisThreadImpl() override { Stop(); }

  void Add(v1::JobSummary job) override {
    {
      MutexLock lock(mutex_);
      if (stopping_) {
        return;  // the next start finds it
      }
      waiting_.try_emplace(NumberOf(job));
      queue_.push_back(std::move(job));
    }
    changed_.NotifyOne();
  }

  void WhenDone(JobNumber job, std::function<void()> then) override {
    {
      MutexLock lock(mutex_);
      if (const auto found = waiting_.find(job); found != waiting_.end()) {
        found->second.push_back(std::move(then));
        return;
      }
    }
    then();
  }

  std::vector<JobNumber> Pending() override {
    MutexLock lock(mutex_);
    std::vector<JobNumber> jobs;
    for (const auto& [job, then] : waiting_) {
      jobs.push_back(job);
    }
    return jobs;
  }

  void Stop() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    stop_ = true;
    changed_.NotifyOne();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

 private:
  void Serve() {
    while (const std::optional<v1::JobSummary> job = Next()) {
      const auto results =
          ComputeResults(*reader_, cache_, *job, v1::GetResultsRequest(),
                         [this] { return stop_.load(); });
      if (!results.ok() && !stop_) {
        LogWarning(absl::StrCat("no results of job ", job->job_number(), ": ",
                                results.status().message()));
      }
      Done(NumberOf(*job));
    }
    for (const JobNumber job : Pending()) {
      Done(job);
    }
  }

  // Nothing: stopping.
  std::optional<v1::JobSummary> Next() {
    MutexLock lock(mutex_);
    while (queue_.empty() && !stopping_) {
      changed_.Wait(mutex_);
    }
    if (stopping_) {
      return std::nullopt;
    }
    v1::JobSummary job = std::move(queue_.front());
    queue_.pop_front();
    return job;
  }

  void Done(JobNumber job) {
    std::vector<std::function<void()>> all;
    {
      MutexLock lock(mutex_);
      all = std::move(waiting_[job]);
      waiting_.erase(job);
    }
    for (const std::function<void()>& then : all) {
      then();
    }
  }

  AnalysisCache& cache_;
  const std::unique_ptr<Reader> reader_;  // the thread's
  std::atomic<bool> stop_ = false;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::JobSummary> queue_ ABSL_GUARDED_BY(mutex_);
  // Job -> who waits for it; until it is done.
  std::map<JobNumber, std::vector<std::function<void()>>> waiting_
      ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace

absl::StatusOr<std::unique_ptr<AnalysisThread>> AnalysisThread::Start(
    const std::string& directory, AnalysisCache& cache, const Clock& clock,
    std::shared_ptr<ReadGate> gate) {
  QSWEEP_ASSIGN_OR_RETURN(std::unique_ptr<Reader> reader,
                          Reader::Open(directory, clock, std::move(gate)));
  return std::make_unique<AnalysisThreadImpl>(std::move(reader), cache);
}

}  // namespace qsweep
