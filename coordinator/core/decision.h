#ifndef QSWEEP_COORDINATOR_CORE_DECISION_H_
#define QSWEEP_COORDINATOR_CORE_DECISION_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "coordinator/core/mutation.h"
#include "coordinator/core/state.h"

namespace qsweep {

// The time of a decision, read once by the loop. wall is truncated to
// microseconds, as the store keeps it.
struct Now {
  SteadyTime steady;
  absl::Time wall;
};

// What a Decide function wants done and what the caller is told once it is on
// disk. An error comes with no mutation.
template <typename Reply>
struct Decision {
  std::vector<Mutation> mutations;
  absl::StatusOr<Reply> reply;
};

// What an event says besides where it belongs; docs/reference/state-machine.md
// lists the kinds.
struct EventText {
  absl::string_view kind;  // "task_leased", "job_succeeded"
  std::string from;
  std::string to;
  std::string reason;
  std::string worker;  // name
  Epoch epoch;
};

// Collects the mutations of one decision and numbers its events. The state it
// looks at is the one before the decision. Single-thread; short-lived.
class Draft {
 public:
  Draft(const State& state, const Now& now) : state_(state), now_(now) {}

  void Add(Mutation mutation) { mutations_.push_back(std::move(mutation)); }
  void AddJobEvent(JobNumber job, EventText text);
  // One event for each subscriber, so that each job's numbers have no gap.
  void AddTaskEvent(const Task& task, const EventText& text);
  void AddEvent(JobNumber job, TaskId task, const EventText& text);
  void AddWorkerEvent(const EventText& text);

  // What the lease of `task`, which ends with this decision, is charged. The
  // time of a worker belongs to the oldest lease it holds, so each second of a
  // busy worker is in one lease: a task that was fetched ahead pays from when
  // the one before it ended. Time in which no coordinator ran is in none.
  absl::Duration HeldTime(const Task& task);

  const State& state() const { return state_; }
  const Now& now() const { return now_; }
  std::vector<Mutation> Take() { return std::move(mutations_); }

 private:
  const State& state_;
  Now now_;
  std::vector<Mutation> mutations_;
  int64_t events_ = 0;
  std::map<JobNumber, int64_t> job_events_;
  std::map<WorkerUuid, SteadyTime> charged_until_;  // by this decision
  std::set<TaskId> ended_;                          // leases, by this decision
};

// Name of a state without its prefix: "LEASED".
std::string ShortName(v1::TaskState state);
std::string ShortName(v1::JobState state);

// Name of the worker; "" when it is not known.
std::string WorkerName(const State& state, const WorkerUuid& uuid);

// A move of the job and its event.
void MoveJob(Draft& draft, const Job& job, v1::JobState to,
             absl::string_view kind, absl::string_view reason);
// To SUCCEEDED, FAILED or CANCELLED; the event is "job_succeeded", ...
void EndJob(Draft& draft, const Job& job, v1::JobState to,
            absl::string_view reason);

// Makes a job that ended PLANNING; plan: as JobReopened.
void ReopenJob(Draft& draft, const Job& job,
               std::shared_ptr<const v1::JobPlan> plan);

// "1 document skipped", "12 documents skipped".
std::string SkippedText(int64_t documents);

// Ends every active job of `task` for which it was the last live task, now
// that it becomes `becomes` (DONE, QUARANTINED or CANCELLED); skipped: what
// Job::documents_skipped becomes, where it changes.
void EndJobsOf(Draft& draft, const Task& task, v1::TaskState becomes,
               const std::map<JobNumber, int64_t>& skipped = {});

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_DECISION_H_
