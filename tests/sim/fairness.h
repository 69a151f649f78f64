#ifndef QSWEEP_TESTS_SIM_FAIRNESS_H_
#define QSWEEP_TESTS_SIM_FAIRNESS_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "coordinator/core/state.h"

namespace qsweep::sim {

// Fair shares, counted again without the policy's code. Single-thread.

// Whether each grant went to the owner whose turn it was, of owners with work
// of one priority for the same worker.
class GrantFairness {
 public:
  // The coordinator has loaded its state: nobody holds anything.
  void OnLoaded();
  void OnGranted(const LeaseGranted& grant);
  // These jobs may have changed their class in the batch that is granted.
  void OnJobChanged(JobNumber job) { changed_.insert(job); }
  // After the step that made the grants; what was unfair, a sentence each.
  std::vector<std::string> AfterStep(const State& state);
  int64_t num_compared() const { return num_compared_; }

 private:
  using Holds = std::map<std::string, int>;  // workers, by owner

  Holds Count(const State& state) const;
  std::string WhyUnfair(const State& state, const LeaseGranted& grant,
                        const Holds& holds, int workers, int owners_max);

  std::map<WorkerUuid, JobNumber> holders_;
  std::vector<LeaseGranted> grants_;  // of this step
  std::set<JobNumber> changed_;
  std::set<std::string> owners_before_;  // with READY tasks, a step ago
  int64_t num_compared_ = 0;
};

// How long owners with work hold less than the floor of their share. Jobs must
// have one priority.
class FloorClock {
 public:
  void Look(const State& state, SteadyTime now);
  absl::Duration longest() const { return longest_; }
  const std::string& whose() const { return whose_; }

 private:
  std::map<std::string, SteadyTime> below_since_;
  absl::Duration longest_;
  std::string whose_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_FAIRNESS_H_
