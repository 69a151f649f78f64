#ifndef QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_
#define QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "coordinator/core/submit.h"

namespace qsweep {

// The steps of DecideSubmit, over one prepared submit. Borrows all it is given.
// Single-thread; used once:
//   for each panel: planner.PlanPanel(panel, statuses);
//   QSWEEP_RETURN_IF_ERROR(planner.Check());
//   mutations = planner.TakeMutations();
class SubmitPlanner {
 public:
  // again: a job that ended, which gets the plan; null: a new job does.
  SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                const Settings& settings, const Now& now,
                const Job* again = nullptr);

  void PlanPanel(const SubmitPanel& panel, const PanelStatuses& statuses);
  // QS4043, QS1051.
  absl::Status Check() const;
  const v1::JobPlan& plan() const { return plan_; }
  std::vector<Mutation> TakeMutations();

 private:
  struct NewTask {
    TaskGroupId group;
    Digest content_key;
    std::vector<TaskDocumentKey> documents;
    double estimated_seconds = 0;
    int64_t num_measurements = 0;
  };

  // Takes from `missing` what live tasks of the panel's model will bring.
  void ShareLiveTasks(const SubmitPanel& panel, std::vector<bool>& missing);
  void MakeTasks(const SubmitPanel& panel, std::vector<bool> missing);
  TaskGroupId GroupOf(const SubmitPanel& panel,
                      const std::vector<int>& configurations);
  Digest ContentKey(const SubmitPanel& panel, const PlannedTask& task) const;

  void AddJob(Draft& draft) const;
  void Reopen(Draft& draft);
  void AddTask(Draft& draft, const NewTask& task, TaskId& next) const;
  void StartOrEnd(Draft& draft) const;

  const State& state_;
  const PreparedSubmit& prepared_;
  const Settings& settings_;
  const Now now_;
  const Job* const again_;
  const JobNumber number_;
  const bool reuse_;  // false: as if nothing were measured
  double gflops_slowest_ = 0;
  double gflops_total_ = 0;  // of the live workers; 0: none

  v1::JobPlan plan_;
  int64_t missing_ = 0;
  // (evaluation, document) with a stored row that is not OK.
  std::set<std::pair<std::string, Digest>> skipped_;
  double seconds_ = 0;  // of the new tasks, on the slowest worker
  std::map<TaskId, int64_t> shared_;
  std::vector<TaskGroupAdded> groups_;
  std::map<std::pair<const SubmitPanel*, std::vector<int>>, TaskGroupId>
      group_of_;
  std::vector<NewTask> tasks_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_
