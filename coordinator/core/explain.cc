#include "coordinator/core/explain.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/core/estimate.h"
#include "coordinator/core/lease.h"
#include "coordinator/core/lists.h"
#include "coordinator/core/policy.h"

namespace qsweep {
namespace {

class Explainer {
 public:
  Explainer(const State& state, const Task& task, const Settings& settings,
            const Now& now)
      : state_(state), task_(task), settings_(settings), now_(now) {}

  v1::ExplainTaskResponse Explain() {
    *response_.mutable_task() = MakeTaskSummary(state_, task_);
    AddAttempts();
    AddWorkers();
    if (task_.history->audit_of.valid()) {
      Say(absl::StrCat("It measures again what task ",
                       task_.history->audit_of.value(),
                       " brought, on another worker, and the two results are "
                       "compared."));
    }
    switch (task_.state) {
      case v1::TASK_STATE_READY:
        ExplainReady();
        break;
      case v1::TASK_STATE_BACKOFF:
        ExplainBackoff();
        break;
      case v1::TASK_STATE_LEASED:
        ExplainLeased();
        break;
      case v1::TASK_STATE_QUARANTINED:
        Say(absl::StrCat("It was given up after ", Attempts(), ": ",
                         Or(task_.history->reason, "no reason was given"),
                         "."));
        Say(absl::StrCat("Once that is mended: qctl jobs retry ", AJob()));
        break;
      case v1::TASK_STATE_CANCELLED:
        Say(absl::StrCat("It was cancelled",
                         task_.history->reason.empty() ? "" : ": ",
                         task_.history->reason, ". No job waits for it."));
        break;
      case v1::TASK_STATE_DONE:
        Say(absl::StrCat("It is done: worker ", response_.task().worker(),
                         " brought the result in attempt ",
                         task_.history->result_epoch.value(), " of ",
                         task_.epoch().value(), "."));
        break;
      default:
        Say("It waits for the output of another task.");
        break;
    }
    return std::move(response_);
  }

 private:
  void Say(std::string sentence) {
    response_.add_sentences(std::move(sentence));
  }

  static std::string Or(const std::string& text, absl::string_view other) {
    return text.empty() ? std::string(other) : text;
  }

  static std::string Plural(size_t count, absl::string_view noun) {
    return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
  }

  static std::string Rounded(absl::Duration duration) {
    return absl::FormatDuration(
        absl::Ceil(std::max(duration, absl::ZeroDuration()), absl::Seconds(1)));
  }

  std::string Attempts() const {
    return Plural(task_.history->grants.size(), "attempt");
  }

  // A job of the task, for a command to type.
  std::string AJob() const {
    return task_.jobs.empty() ? "JOB" : absl::StrCat(task_.jobs.back().value());
  }

  void AddAttempts() {
    int64_t epoch = 0;
    for (const Grant& grant : task_.history->grants) {
      v1::TaskAttempt* attempt = response_.add_attempts();
      attempt->set_epoch(static_cast<uint64_t>(++epoch));
      const Worker* worker = state_.FindWorker(grant.worker);
      attempt->set_worker(worker == nullptr ? "" : worker->name);
      if (grant.end) {
        attempt->set_end(std::string(LeaseEndName(*grant.end)));
      }
    }
  }

  void AddWorkers() {
    for (const auto& [uuid, worker] : state_.workers()) {
      if (worker.liveness == WorkerLiveness::kLost) {
        continue;
      }
      v1::WorkerFit* fit = response_.add_workers();
      fit->set_worker(worker.name);
      for (std::string& reason : WhyNotFit(state_, task_, worker, settings_)) {
        fit->add_reasons(std::move(reason));
      }
      for (std::string& reason : WhyNotRequired(state_, task_, worker)) {
        fit->add_reasons(std::move(reason));
      }
      if (fit->reasons().empty() &&
          IsForOthers(state_, task_, worker, settings_)) {
        fit->add_reasons(
            task_.history->audit_of.valid()
                ? "it made the result that this task checks, or failed at it, "
                  "and there is another"
                : "it failed there, and another worker has not tried it");
      }
      fit->set_busy(fit->reasons().empty() && !HasCredit(worker));
    }
  }

  void ExplainLeased() {
    const Lease& lease = *task_.lease;
    const Worker& worker = *state_.FindWorker(lease.worker);
    const absl::Duration held = now_.steady - lease.granted_at;
    if (!lease.listed) {
      Say(absl::StrCat("It was given to worker ", worker.name, " ",
                       Rounded(held), " ago, which has not confirmed it yet."));
    } else {
      Say(absl::StrCat(PhaseText(lease.progress), " on worker ", worker.name,
                       " since ", Rounded(held), ", attempt ",
                       task_.epoch().value(), "."));
      SayLimits(lease, worker);
    }
    if (worker.liveness != WorkerLiveness::kLive) {
      Say(absl::StrCat("The worker was last heard of ",
                       Rounded(now_.steady - worker.seen_at), " ago; in ",
                       Rounded(lease.deadline - now_.steady),
                       " the task is given to another."));
    }
  }

  void SayLimits(const Lease& lease, const Worker& worker) {
    if (lease.progress.phase() != v1::TASK_PHASE_RUN) {
      return;
    }
    Say(absl::StrCat("Nine in ten such tasks take less than ",
                     Rounded(ExpectedOn(state_, task_, worker, settings_).run),
                     " there. It goes to another worker after ",
                     Rounded(lease.progress_limit), " without progress, or in ",
                     Rounded(lease.run_deadline - now_.steady),
                     " at the latest."));
  }

  static std::string PhaseText(const v1::TaskProgress& progress) {
    const std::string detail = absl::StrFormat(
        "%s%s%.0f %%", progress.text(), progress.text().empty() ? "" : ", ",
        100 * progress.fraction());
    switch (progress.phase()) {
      case v1::TASK_PHASE_FETCH:
        return absl::StrCat("It loads the model (", detail, ")");
      case v1::TASK_PHASE_COMMIT:
        return "Its result waits to be stored";
      default:
        return absl::StrCat("It runs (", detail, ")");
    }
  }

  void ExplainBackoff() {
    Say(absl::StrCat("It waits ",
                     Rounded(task_.history->ready_at - now_.steady),
                     " before its next attempt, after: ",
                     Or(task_.history->reason, "a failure"), "."));
    Say(absl::StrFormat(
        "Charged so far: %d failed of %d, %d lost of %d; %d preempted (free).",
        task_.history->failed, FailedBudget(state_, task_, settings_),
        task_.history->lost, settings_.lost_budget, task_.history->preempted));
  }

  void ExplainReady() {
    std::vector<JobNumber> open;
    for (const JobNumber number : task_.jobs) {
      const v1::JobState state = state_.job(number).state;
      if (state == v1::JOB_STATE_QUEUED || state == v1::JOB_STATE_RUNNING) {
        open.push_back(number);
      } else if (state == v1::JOB_STATE_PLANNING) {
        Say(absl::StrCat("Job ", number.value(), " is being planned."));
      } else if (state == v1::JOB_STATE_PAUSED) {
        Say(absl::StrCat("Job ", number.value(),
                         " is paused: qctl jobs resume ", number.value()));
      } else if (state == v1::JOB_STATE_STOPPING) {
        Say(absl::StrCat("Job ", number.value(),
                         " stops: what waits is being dropped."));
      }
    }
    if (open.empty()) {
      return;
    }
    std::vector<std::string> free;
    std::vector<std::string> busy;
    for (const v1::WorkerFit& fit : response_.workers()) {
      if (fit.reasons().empty()) {
        (fit.busy() ? busy : free).push_back(fit.worker());
      }
    }
    if (free.empty() && busy.empty()) {
      ExplainNoFit();
      return;
    }
    if (free.empty()) {
      Say(absl::StrCat("It waits for a worker: ", Plural(busy.size(), "worker"),
                       " can run it and all are busy (",
                       absl::StrJoin(busy, ", "), ")."));
    } else {
      Say(absl::StrCat("It can run on ", absl::StrJoin(free, ", "),
                       ", which has room, and waits for its turn: placement "
                       "keeps a worker on the model it has loaded, loads a new "
                       "model on one worker first, and shares workers between "
                       "users."));
    }
    ExplainQueue(open);
  }

  void ExplainNoFit() {
    if (response_.workers().empty()) {
      Say("It waits because no worker is attached. Start one: qctl up "
          "--workers 1, or qworker on another machine.");
      return;
    }
    std::map<std::string, std::vector<std::string>> workers_by_reason;
    for (const v1::WorkerFit& fit : response_.workers()) {
      workers_by_reason[absl::StrJoin(fit.reasons(), "; ")].push_back(
          fit.worker());
    }
    Say(absl::StrCat("It waits because none of ",
                     Plural(static_cast<size_t>(response_.workers_size()),
                            "attached worker"),
                     " can run it."));
    for (const auto& [reason, workers] : workers_by_reason) {
      Say(absl::StrCat(absl::StrJoin(workers, ", "), ": ", reason, "."));
    }
  }

  void ExplainQueue(const std::vector<JobNumber>& open) {
    for (const JobNumber number : open) {
      const Job& job = state_.job(number);
      if (job.queue_timeout > absl::ZeroDuration() &&
          job.waiting_since != SteadyTime::InfiniteFuture()) {
        Say(absl::StrCat(
            "Job ", number.value(), " is cancelled in ",
            Rounded(job.waiting_since + job.queue_timeout - now_.steady),
            ", its queue timeout, unless a worker takes a task of it."));
      }
      int64_t ahead = 0;
      for (const auto& [group, tasks] : job.ready) {
        ahead += std::distance(tasks.begin(), tasks.lower_bound(task_.id));
      }
      int64_t above = 0;
      for (const JobNumber other : state_.active_jobs()) {
        above += state_.job(other).priority > job.priority &&
                         !state_.job(other).ready.empty()
                     ? 1
                     : 0;
      }
      Say(absl::StrCat(
          "In job ", number.value(), " (priority ", job.priority, ") ",
          Plural(static_cast<size_t>(ahead), "task"),
          ahead == 1 ? " comes before it" : " come before it",
          above == 0
              ? ""
              : absl::StrCat("; ", Plural(static_cast<size_t>(above), "job"),
                             " with tasks to run have a higher priority"),
          "."));
    }
  }

  const State& state_;
  const Task& task_;
  const Settings& settings_;
  const Now now_;
  v1::ExplainTaskResponse response_;
};

}  // namespace

v1::ExplainTaskResponse ExplainTask(const State& state, const Task& task,
                                    const Settings& settings, const Now& now) {
  return Explainer(state, task, settings, now).Explain();
}

}  // namespace qsweep
