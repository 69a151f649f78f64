#ifndef QSWEEP_COORDINATOR_LOOP_PLANS_H_
#define QSWEEP_COORDINATOR_LOOP_PLANS_H_

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "coordinator/core/submit.h"
#include "coordinator/core/submit_planner.h"
#include "coordinator/loop.h"

namespace qsweep {

class LoopCore;

// Submits that are too large for one step of the loop. Each step plans and
// writes a slice of the oldest; the caller has its answer when the last one is
// on disk. A job whose planning a restart interrupted is planned on, whether
// its client asks again or not: its outcome was not known, and either is
// allowed. Single-thread: the loop's.
class LongPlans {
 public:
  LongPlans();
  ~LongPlans();

  // A new job, or with dry_run only its plan. reply: once-only, and called when
  // this returns OK. RESOURCE_EXHAUSTED QS4040: too many wait, each with all
  // its configurations and documents in memory.
  absl::Status Submit(std::shared_ptr<const PreparedSubmit> prepared,
                      Reply<v1::SubmitJobResponse> reply);
  // A job that ended gets a new plan, and is PLANNING when this returns. A plan
  // of it that had not noticed the end goes; its callers wait for the new one.
  void Replan(LoopCore& core, std::shared_ptr<const PreparedSubmit> prepared,
              const Job& job);
  // One more caller waits for the plan of this UUID. False: there is none.
  // ALREADY_EXISTS QS4022: it is of another spec.
  absl::StatusOr<bool> Wait(const JobUuid& uuid, const Digest& spec_digest,
                            const Reply<v1::SubmitJobResponse>& reply);
  // The jobs in state PLANNING of a State that was just loaded.
  void Resume(const State& state);

  bool empty() const { return plans_.empty(); }
  // Does the next piece of the oldest; a plan whose limits it passes, or that
  // cannot be made, ends with its job cancelled. Before it, what calls left
  // must be on disk. An error is fatal: the store's.
  absl::Status Step(LoopCore& core);
  // The job of which Step left a piece that is not on disk yet; not valid:
  // there is none.
  JobNumber Begun() const;
  // The mutations of Step are on disk.
  void AfterCommit(LoopCore& core);
  // Forgets all; those who wait hear why: for the plan whose piece is not on
  // disk yet why_begun, for the others why.
  void Forget(const absl::Status& why_begun, const absl::Status& why);

 private:
  struct Plan;

  absl::Status Prepare(LoopCore& core, Plan& plan);
  absl::Status Check(LoopCore& core, Plan& plan);
  absl::Status PlanSlice(LoopCore& core, Plan& plan);
  absl::Status Activate(LoopCore& core, Plan& plan);
  static void Fail(LoopCore& core, Plan& plan, const absl::Status& why);
  // Marks the plans of jobs that are not PLANNING any more, or are gone.
  void NoticeEnded(const State& state);
  static void Answer(Plan& plan,
                     const absl::StatusOr<v1::SubmitJobResponse>& response);

  std::list<std::unique_ptr<Plan>> plans_;
  static constexpr size_t kMostPlans = 16;
  bool begun_ = false;  // Step left a piece of the oldest
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_PLANS_H_
