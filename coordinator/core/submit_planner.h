#ifndef QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_
#define QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"

#include "coordinator/core/calibration_cost.h"
#include "coordinator/core/plan.h"
#include "coordinator/core/submit.h"

namespace qsweep {

// A part of a submit's measurements: some configurations x some documents of a
// panel. The slices of a submit have each measurement once.
struct PlanSlice {
  size_t panel = 0;  // into PreparedSubmit::panels
  size_t first_configuration = 0;
  size_t num_configurations = 0;
  size_t first_document = 0;
  size_t num_documents = 0;
};

// Turns a prepared submit into mutations. A small one in one decision:
//   for each slice: planner.Plan(state, slice, statuses);
//   QSWEEP_RETURN_IF_ERROR(planner.Check());
//   planner.Begin(draft), planner.AddTasks(draft), planner.Start(draft)
// A large one in one decision a slice, between which the state goes on:
//   Begin; Clear until it is done; for each slice: Plan, AddTasks; Activate
// Each slice looks at what is measured and at what live tasks will bring now,
// so it plans no key that came on its way since; its tasks are the job's at
// once and nobody's to lease before Activate. After a restart the same without
// Begin: what the job has stays, but for what was given up, which is tried
// again. Borrows `prepared` and `settings`. Single-thread.
class SubmitPlanner {
 public:
  // Of a new job. The speed of the workers is that of now.
  SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                const Settings& settings);
  // Of a job that is there: one that ended, or is PLANNING.
  SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                const Settings& settings, const Job& job);

  // Whether it is small enough for one decision; then a slice is a panel.
  bool at_once() const { return at_once_; }
  const std::vector<PlanSlice>& slices() const { return slices_; }
  // Its keys, for PanelStatuses.
  std::vector<Digest> ConfigurationsOf(const PlanSlice& slice) const;
  std::vector<Digest> DocumentsOf(const PlanSlice& slice) const;

  // statuses: of the slice's keys, as the store has them now.
  void Plan(const State& state, const PlanSlice& slice,
            const PanelStatuses& statuses);
  // Forgets the tasks of the slices planned since the last AddTasks: for a plan
  // that is only looked at.
  void DropTasks();
  // Of all slices so far. QS4043, QS1051.
  absl::Status Check() const;
  const v1::JobPlan& plan() const { return plan_; }

  // JobAdded or JobReopened. At once: without the tasks the job has not got.
  void Begin(Draft& draft);
  // Of a large job that was there before, the next of the tasks it has: those
  // that were given up are the job's no more, and what the others bring is not
  // counted until it is planned. False: all are done, the plan begins.
  bool Clear(Draft& draft);
  // The next documents of a job that has many; false: it has them all.
  bool AddDocuments(Draft& draft);
  // The tasks of the slices planned since the last call.
  void AddTasks(Draft& draft);
  // The job's first state; the draft has all its tasks.
  void Start(Draft& draft) const;
  // The same for a job whose tasks are in the state. documents_skipped: what
  // Job::documents_skipped is over its measurements, when the state's count
  // changed since Begin.
  void Activate(Draft& draft, int64_t documents_skipped);

  JobNumber number() const { return number_; }
  int64_t num_keys() const { return num_keys_; }
  // So far.
  int64_t documents_skipped() const {
    return static_cast<int64_t>(skipped_.size());
  }

 private:
  struct NewTask {
    TaskGroupId group;
    Digest content_key;
    std::vector<TaskDocumentKey> documents;
    double estimated_seconds = 0;
    int64_t num_measurements = 0;
  };

  // Of the workers that may run a panel's tasks.
  struct Rates {
    double gflops = 0;            // of the slowest
    double gflops_total = 0;      // 0: there is none
    double weight_bandwidth = 0;  // bytes/s, of the slowest
    double reading_seconds = 0;   // of the model's weights, by that
  };

  Rates RatesFor(const State& state, const SubmitPanel& panel) const;
  void CutSlices();
  void CutPanel(size_t panel, double tasks);
  // Takes from `missing`, [configurations of the panel, documents of the
  // slice], what live tasks will bring.
  void ShareLiveTasks(const State& state, const PlanSlice& slice,
                      std::vector<bool>& missing);
  bool MayShare(const State& state, const Task& task) const;
  // Takes from `missing` what the task brings of the slice's document d.
  void ShareTask(const State& state, const PlanSlice& slice, size_t d,
                 const Task& task, std::vector<bool>& missing);
  // The panel's configurations that the group's tasks measure.
  const std::vector<int>& IndexesOf(size_t panel, const TaskGroup& group);
  void CountShared(const State& state, size_t panel, const Task& task);
  void MakeTasks(const State& state, const PlanSlice& slice,
                 std::vector<bool> missing);
  TaskGroupId GroupOf(const State& state, size_t panel,
                      const std::vector<int>& configurations);
  void AddCalibrations(const ExpandedModel& model,
                       const std::vector<int>& configurations,
                       v1::TaskSpec& prototype) const;
  void CountCalibrations(size_t panel, const std::vector<int>& configurations);
  Digest ContentKey(const SubmitPanel& panel, const PlanSlice& slice,
                    const PlannedTask& task) const;
  void CountPlanned(size_t panel, const PlannedTask& task);

  SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                const Settings& settings, const Job* job);
  std::vector<JobDocument> DocumentsFrom(size_t first, size_t count) const;
  void AddJob(Draft& draft);
  void Reopen(Draft& draft);
  void AddTask(Draft& draft, const NewTask& task, TaskId& next) const;
  void MoveTo(Draft& draft, v1::JobState state, absl::string_view kind,
              const std::string& reason) const;
  std::shared_ptr<const v1::JobPlan> PlanNow() const;

  const PreparedSubmit& prepared_;
  const Settings& settings_;
  const JobNumber number_;
  const bool exists_;            // the job was there before
  const bool reuse_;             // false: as if nothing were measured
  std::vector<Rates> rates_;     // parallel to the panels
  std::deque<TrieSizes> tries_;  // parallel to the models
  std::deque<CalibrationCost> calibrations_;  // parallel to the models
  bool at_once_ = true;
  std::vector<PlanSlice> slices_;
  size_t documents_added_ = 0;
  TaskId cleared_;  // the last of the job's that was

  v1::JobPlan plan_;
  int64_t num_keys_ = 0;  // in all
  int64_t missing_ = 0;
  // (evaluation, document) with a stored row that is not OK.
  absl::flat_hash_set<std::pair<std::string, Digest>> skipped_;
  double seconds_ = 0;  // of the new tasks, on all workers; 0: there is none
  std::map<std::pair<size_t, std::vector<int>>, TaskGroupId> group_of_;
  absl::flat_hash_map<std::pair<size_t, TaskGroupId>, std::vector<int>>
      indexes_of_;
  std::vector<absl::flat_hash_map<Digest, int>> position_of_;  // by panel
  absl::flat_hash_set<TaskId> seen_;  // shared, or the job's before it resumed

  // Since the last AddTasks.
  std::map<TaskId, int64_t> shared_;
  std::vector<TaskGroupAdded> groups_;
  std::vector<NewTask> tasks_;
  bool shares_leased_ = false;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_SUBMIT_PLANNER_H_
