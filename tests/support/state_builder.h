#ifndef QSWEEP_TESTS_SUPPORT_STATE_BUILDER_H_
#define QSWEEP_TESTS_SUPPORT_STATE_BUILDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep::testing {

// States for tables, made through the same mutations as real ones. Names stand
// for digests and ids: TestDigest("fra-1"), TestWorker("w1").

inline const Settings kSettings;  // the defaults
Digest TestDigest(const std::string& name);
WorkerUuid TestWorker(const std::string& name);
SessionId TestSession(const std::string& name);  // of the worker of that name
BootId TestBoot(const std::string& name);
Now TestNow(absl::Duration since_start = absl::ZeroDuration());

struct JobOptions {
  std::string owner = "ann";
  int priority = 0;
  int max_retries = 0;
  int max_fails = 0;
  uint64_t measurements = 1000;  // in all; a job that ends needs the true count
  v1::Requirements require = {};
  v1::Compute compute = v1::COMPUTE_FP32;
  uint64_t queue_timeout_ms = 0;
  v1::JobState state = v1::JOB_STATE_QUEUED;
};

struct TaskOptions {
  std::vector<int64_t> jobs = {1};
  std::string model = "model";
  std::string evaluation = "aligned@1;tok=00";
  std::vector<std::string> quantizers = {"rtn:bits=4"};  // a configuration each
  std::vector<std::string> documents = {"d1", "d2"};
  double estimated_gflops = 0;
  double estimated_seconds = 10;
  std::string layer_set;  // of all configurations
  uint64_t weight_bytes = 0;
  double estimated_weight_bandwidth = 0;
};

struct WorkerOptions {
  uint32_t credits = 2;
  std::vector<std::string> evaluations = {"aligned@1"};
  std::vector<std::string> methods = {"rtn"};
  std::vector<std::pair<std::string, v1::ResidentModel::Level>> models = {};
  bool draining = false;
  uint64_t lifetime_left_ms = 0;
  std::string credential = "";
  uint64_t boot_seq = 1;
  double gflops = 60;
  std::string device = "Tesla T4";
  uint64_t memory_bytes = 0;
  uint32_t compute_capability = 75;
  std::vector<v1::Compute> computes;  // besides fp32
};

v1::Hello MakeHello(const std::string& worker, const WorkerOptions& options);
// A report that lists nothing, with a beat_seq as given.
v1::WorkerState MakeReport(const std::string& worker,
                           const WorkerOptions& options, uint64_t beat_seq);

class StateBuilder {
 public:
  StateBuilder();

  // Jobs and tasks are numbered from 1 in the order they are added. A job
  // stays in PLANNING until Build.
  StateBuilder& Job(const JobOptions& options = {});
  StateBuilder& Task(const TaskOptions& options = {});
  // Attached, LIVE, its first report seen.
  StateBuilder& Worker(const std::string& name,
                       const WorkerOptions& options = {});
  // Grants the task's next epoch.
  StateBuilder& Lease(int64_t task, const std::string& worker);
  StateBuilder& Apply(Mutation mutation);

  State Build();

 private:
  State state_;
  std::vector<std::pair<JobNumber, v1::JobState>> jobs_;
  std::map<std::string, std::string> credentials_;
};

// Mutations of one kind, in order.
template <typename T>
std::vector<T> Only(const std::vector<Mutation>& mutations) {
  std::vector<T> found;
  for (const Mutation& mutation : mutations) {
    if (const T* m = std::get_if<T>(&mutation)) {
      found.push_back(*m);
    }
  }
  return found;
}

// "task_leased" of each EventAppended, with its job: "1:task_leased".
std::vector<std::string> EventsOf(const std::vector<Mutation>& mutations);

// The state after the mutations.
State After(State state, const std::vector<Mutation>& mutations);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_STATE_BUILDER_H_
