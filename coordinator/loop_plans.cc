#include "coordinator/loop_plans.h"

#include <malloc.h>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "coordinator/core/cancel.h"
#include "coordinator/loop_calls.h"
#include "coordinator/loop_core.h"

namespace qsweep {
namespace {

// To those who waited for the plan of the job.
absl::StatusOr<v1::SubmitJobResponse> AnswerPlanned(LoopCore& core,
                                                    JobNumber number) {
  const Job* job = core.state().FindJob(number);
  if (job == nullptr) {
    return MakeError(kJobNotFound, absl::StrCat("job ", number.value(),
                                                " was deleted meanwhile"));
  }
  auto response = AnswerRepeated(core, *job);
  // The job is stored; asked again, the next process says so.
  const absl::Status health = core.store().Health();
  return health.ok() ? response : LoopCore::NotStored(health);
}

}  // namespace

struct LongPlans::Plan {
  struct Waiting {
    Reply<v1::SubmitJobResponse> reply;
    bool existed = false;
  };

  JobUuid uuid;
  JobNumber job;  // not valid: none was added yet
  // Null: to be read from the store. `planner` borrows it.
  std::shared_ptr<const PreparedSubmit> prepared;
  std::unique_ptr<SubmitPlanner> check;  // a plan that changes nothing
  std::unique_ptr<SubmitPlanner> planner;
  size_t next_slice = 0;
  bool cleared = true;  // of what the job had before
  bool documents_added = false;
  bool over = false;  // activated, on its way to disk; or its job has ended
  std::vector<Waiting> waiting;
};

LongPlans::LongPlans() = default;
LongPlans::~LongPlans() = default;

absl::Status LongPlans::Submit(std::shared_ptr<const PreparedSubmit> prepared,
                               Reply<v1::SubmitJobResponse> reply) {
  if (plans_.size() >= kMostPlans) {
    return MakeError(
        kOverloaded,
        absl::StrCat(plans_.size(), " large jobs are being planned"), "",
        "Try again when qctl jobs list shows them queued.");
  }
  auto plan = std::make_unique<Plan>();
  plan->uuid = prepared->uuid;
  plan->prepared = std::move(prepared);
  plan->waiting.push_back({.reply = std::move(reply)});
  plans_.push_back(std::move(plan));
  return absl::OkStatus();
}

void LongPlans::Replan(LoopCore& core,
                       std::shared_ptr<const PreparedSubmit> prepared,
                       const Job& job) {
  auto plan = std::make_unique<Plan>();
  plan->uuid = job.uuid;
  plan->job = job.number;
  plan->prepared = std::move(prepared);
  plan->planner = std::make_unique<SubmitPlanner>(core.state(), *plan->prepared,
                                                  core.settings(), job);
  plan->cleared = false;
  plan->documents_added = true;
  for (const auto& old : plans_) {
    if (old->job == job.number) {
      plan->waiting.insert(plan->waiting.end(), old->waiting.begin(),
                           old->waiting.end());
    }
  }
  plans_.remove_if([&job](const auto& old) { return old->job == job.number; });
  Draft draft(core.state(), core.now());
  plan->planner->Begin(draft);
  core.Apply(draft.Take());
  plans_.push_back(std::move(plan));
}

absl::StatusOr<bool> LongPlans::Wait(
    const JobUuid& uuid, const Digest& spec_digest,
    const Reply<v1::SubmitJobResponse>& reply) {
  for (const auto& plan : plans_) {
    const bool dry = plan->prepared != nullptr && plan->prepared->dry_run;
    if (plan->uuid != uuid || dry) {
      continue;
    }
    if (!plan->job.valid() && plan->prepared->spec_digest != spec_digest) {
      return MakeError(
          kJobConflict,
          absl::StrCat("job ", uuid.text(), " is submitted with another spec"),
          "job_uuid", "Submit with a new UUID.");
    }
    plan->waiting.push_back({.reply = reply, .existed = true});
    return true;
  }
  return false;
}

void LongPlans::Resume(const State& state) {
  QSWEEP_CHECK(plans_.empty());
  for (const JobNumber number : state.active_jobs()) {
    const Job& job = state.job(number);
    if (job.state == v1::JOB_STATE_PLANNING) {
      auto plan = std::make_unique<Plan>();
      plan->uuid = job.uuid;
      plan->job = number;
      plans_.push_back(std::move(plan));
    }
  }
}

absl::Status LongPlans::Step(LoopCore& core) {
  NoticeEnded(core.state());
  Plan& plan = *plans_.front();
  if (plan.over) {
    return absl::OkStatus();
  }
  begun_ = true;
  if (plan.planner == nullptr) {
    return plan.prepared == nullptr ? Prepare(core, plan) : Check(core, plan);
  }
  if (!plan.cleared || !plan.documents_added) {
    Draft draft(core.state(), core.now());
    if (!plan.cleared) {
      plan.cleared = !plan.planner->Clear(draft);
    } else {
      plan.documents_added = !plan.planner->AddDocuments(draft);
    }
    core.Apply(draft.Take());
    return absl::OkStatus();
  }
  return plan.next_slice < plan.planner->slices().size() ? PlanSlice(core, plan)
                                                         : Activate(core, plan);
}

void LongPlans::NoticeEnded(const State& state) {
  for (const auto& plan : plans_) {
    if (plan->job.valid()) {
      const Job* job = state.FindJob(plan->job);
      plan->over = job == nullptr || job->state != v1::JOB_STATE_PLANNING;
    }
  }
}

// Of a job that a restart found half planned.
absl::Status LongPlans::Prepare(LoopCore& core, Plan& plan) {
  absl::StatusOr<PreparedSubmit> prepared = PrepareStored(core, plan.job);
  if (!prepared.ok()) {
    if (absl::IsDataLoss(prepared.status())) {
      return prepared.status();
    }
    Fail(core, plan, prepared.status());
    return absl::OkStatus();
  }
  plan.prepared = std::make_shared<const PreparedSubmit>(*std::move(prepared));
  plan.planner = std::make_unique<SubmitPlanner>(core.state(), *plan.prepared,
                                                 core.settings(),
                                                 core.state().job(plan.job));
  plan.cleared = false;
  return absl::OkStatus();
}

// A job that cannot be planned any more, or was refused.
void LongPlans::Fail(LoopCore& core, Plan& plan, const absl::Status& why) {
  LogError(
      absl::StrCat("cannot plan job ", plan.job.value(), ": ", why.ToString()));
  core.Apply(DecideCancel(core.state(), plan.job, why.message(),
                          core.settings(), core.now())
                 .mutations);
}

// Whether the submit is refused must be known before anything of it is stored:
// a pass over the slices that changes nothing, where it may be.
absl::Status LongPlans::Check(LoopCore& core, Plan& plan) {
  const PreparedSubmit& prepared = *plan.prepared;
  if (plan.check == nullptr) {
    plan.check = std::make_unique<SubmitPlanner>(core.state(), prepared,
                                                 core.settings());
  }
  const bool needed =
      prepared.dry_run ||
      prepared.spec->policy().reuse() == v1::REUSE_REQUIRE ||
      plan.check->num_keys() > core.settings().max_tasks_per_job;
  if (needed && plan.next_slice < plan.check->slices().size()) {
    const qsweep::PlanSlice& slice = plan.check->slices()[plan.next_slice++];
    QSWEEP_ASSIGN_OR_RETURN(const PanelStatuses statuses,
                            ReadStatuses(core, prepared, *plan.check, slice));
    plan.check->Plan(core.state(), slice, statuses);
    plan.check->DropTasks();
    return absl::OkStatus();
  }
  const absl::Status allowed = needed ? plan.check->Check() : absl::OkStatus();
  if (!allowed.ok() || prepared.dry_run) {
    v1::SubmitJobResponse response;
    *response.mutable_plan() = plan.check->plan();
    Answer(plan, allowed.ok() ? absl::StatusOr<v1::SubmitJobResponse>(
                                    std::move(response))
                              : allowed);
    plans_.pop_front();
    return absl::OkStatus();
  }
  plan.check.reset();
  plan.next_slice = 0;
  plan.planner =
      std::make_unique<SubmitPlanner>(core.state(), prepared, core.settings());
  plan.job = plan.planner->number();
  Draft draft(core.state(), core.now());
  plan.planner->Begin(draft);
  core.Apply(draft.Take());
  return absl::OkStatus();
}

absl::Status LongPlans::PlanSlice(LoopCore& core, Plan& plan) {
  const qsweep::PlanSlice& slice = plan.planner->slices()[plan.next_slice++];
  QSWEEP_ASSIGN_OR_RETURN(
      const PanelStatuses statuses,
      ReadStatuses(core, *plan.prepared, *plan.planner, slice));
  plan.planner->Plan(core.state(), slice, statuses);
  // Its tasks may be more than a check before counted, and a plan that goes on
  // after a restart, or of a job that is retried, has had none.
  if (const absl::Status allowed = plan.planner->Check(); !allowed.ok()) {
    Fail(core, plan, allowed);
    return absl::OkStatus();
  }
  Draft draft(core.state(), core.now());
  plan.planner->AddTasks(draft);
  core.Apply(draft.Take());
  return absl::OkStatus();
}

absl::Status LongPlans::Activate(LoopCore& core, Plan& plan) {
  int64_t skipped = plan.planner->documents_skipped();
  if (core.state().job(plan.job).documents_skipped > 0) {
    // A task it shares brought some meanwhile: they may be the same.
    QSWEEP_ASSIGN_OR_RETURN(skipped,
                            core.store().CountSkipped(plan.job, "", {}));
  }
  Draft draft(core.state(), core.now());
  plan.planner->Activate(draft, skipped);
  core.Apply(draft.Take());
  plan.over = true;
  return absl::OkStatus();
}

JobNumber LongPlans::Begun() const {
  return begun_ ? plans_.front()->job : JobNumber();
}

void LongPlans::AfterCommit(LoopCore& core) {
  begun_ = false;
  const size_t before = plans_.size();
  plans_.remove_if([&core](const auto& plan) {
    if (plan->over) {
      // Of a job that was cancelled meanwhile the submit itself went well.
      Answer(*plan, AnswerPlanned(core, plan->job));
    }
    return plan->over;
  });
  if (plans_.size() < before) {
    // What a large plan took lies in small pieces all over the heap.
    malloc_trim(0);
  }
}

void LongPlans::Forget(const absl::Status& why_begun, const absl::Status& why) {
  for (const auto& plan : plans_) {
    Answer(*plan, std::exchange(begun_, false) ? why_begun : why);
  }
  plans_.clear();
}

void LongPlans::Answer(Plan& plan,
                       const absl::StatusOr<v1::SubmitJobResponse>& response) {
  for (const Plan::Waiting& waiting : plan.waiting) {
    absl::StatusOr<v1::SubmitJobResponse> own = response;
    if (own.ok()) {
      own->set_existed(waiting.existed);
    }
    waiting.reply(std::move(own));
  }
  plan.waiting.clear();
}

}  // namespace qsweep
