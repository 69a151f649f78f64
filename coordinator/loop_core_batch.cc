// What happens to the batch: it is written and answered, or told why not.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/planted.h"
#include "coordinator/core/cancel.h"
#include "coordinator/core/lists.h"
#include "coordinator/loop_core.h"

namespace qsweep {
namespace {

// A batch that fails again and again without any call in it is a defect that
// no caller can mend.
constexpr int kFailuresMax = 10;
// After the last write: a checkpoint in between would only slow the next.
constexpr absl::Duration kIdleAfter = absl::Seconds(1);

bool ChangesTokens(const Mutation& mutation) {
  return std::holds_alternative<TokenAdded>(mutation) ||
         std::holds_alternative<TokenRotated>(mutation) ||
         std::holds_alternative<TokenRevoked>(mutation);
}

// What a load leaves to write, to plan a job on, says nothing about what failed
// before it.
bool IsProgress(const Mutation& mutation) {
  const auto* task = std::get_if<JobTaskAdded>(&mutation);
  return IsDurable(mutation) &&
         !std::holds_alternative<CoordinatorStarted>(mutation) &&
         !std::holds_alternative<JobPlanningResumed>(mutation) &&
         (task == nullptr || task->num_measurements >= 0);
}

}  // namespace

absl::Status LoopCore::NotStored(const absl::Status& why) {
  absl::Status status =
      absl::UnavailableError(absl::StrCat("not stored: ", why.message()));
  if (const auto info = GetErrorInfo(why)) {
    SetErrorInfo(status, *info);
  }
  return status;
}

void LoopCore::Answer(std::function<void(const absl::Status&)> answer) {
  QSWEEP_CHECK(!entries_.empty());
  entries_.back().answers.push_back(std::move(answer));
}

bool LoopCore::Touches(TaskId task, const std::vector<Digest>& configurations,
                       const std::vector<Digest>& documents) const {
  if (batch_tasks_.contains(task)) {
    return true;
  }
  if (batch_rows_.empty()) {
    return false;
  }
  return std::ranges::any_of(configurations, [&](const Digest& configuration) {
    return std::ranges::any_of(documents, [&](const Digest& document) {
      return batch_rows_.contains(std::pair(configuration, document));
    });
  });
}

absl::Status LoopCore::Flush() {
  Entry current = std::move(entries_.back());
  entries_.pop_back();
  const int64_t failures_before = failures_;
  absl::Status status = CommitBatch();
  if (!status.ok()) {
    fatal_ = status;
  } else if (failures_ > failures_before) {
    status = absl::UnavailableError("a commit before this call failed");
  }
  entries_.push_back(std::move(current));
  return status;
}

bool LoopCore::HasDurable() const {
  return std::ranges::any_of(batch_, IsDurable);
}

void LoopCore::ReportEndedJobs() const {
  for (const Mutation& mutation : batch_) {
    const auto* changed = std::get_if<JobStateChanged>(&mutation);
    if (on_job_end_ && changed != nullptr && IsTerminal(changed->state)) {
      if (const Job* job = state_.FindJob(changed->job)) {
        on_job_end_(MakeJobSummary(*job));
      }
    }
  }
}

absl::Status LoopCore::CommitBatch() {
  if (Planted(Bug::kAcknowledgeBeforeCommit)) {
    AnswerAll();
  }
  // Of nothing, too: what the calls read is not held back any longer.
  if (absl::Status status = store_->Commit(batch_); !status.ok()) {
    return HandleFailedCommit(status);
  }
  if (HasDurable()) {
    idle_at_ = now_.steady + kIdleAfter;
  }
  // One by one says nothing of what time did in the batch that failed.
  if (!one_by_one_ && std::ranges::any_of(batch_, IsProgress)) {
    failures_in_row_ = 0;
  }
  if (std::ranges::any_of(batch_, ChangesTokens)) {
    tokens_.Publish(state_.tokens());
  }
  purging_ |= std::ranges::any_of(batch_, [](const Mutation& mutation) {
    return std::holds_alternative<JobPurged>(mutation);
  });
  ReportEndedJobs();
  watchers_.OnCommitted(batch_);
  batch_.clear();
  batch_tasks_.clear();
  batch_rows_.clear();
  AnswerAll();
  plans_.AfterCommit(*this);
  return absl::OkStatus();
}

void LoopCore::AnswerAll() {
  for (Entry& entry : std::exchange(entries_, {})) {
    for (auto& answer : entry.answers) {
      answer(absl::OkStatus());
    }
  }
}

absl::Status LoopCore::HandleFailedCommit(const absl::Status& why) {
  LogError(absl::StrCat("commit failed: ", why.ToString()));
  ++failures_;
  std::vector<Entry> entries = std::exchange(entries_, {});
  // A statement that SQLite refuses is some call's fault until each was tried
  // alone: whoever sends such a call must not end the process by repeating it.
  const bool one_by_one = absl::IsInternal(why) && !entries.empty() &&
                          !Planted(Bug::kBadRequestPoisonsBatch);
  failures_in_row_ += absl::IsResourceExhausted(why) || one_by_one ? 0 : 1;
  if (absl::IsDataLoss(why) || failures_in_row_ > kFailuresMax) {
    // Never tried again: after a failed fsync the kernel has marked the pages
    // clean, and a second one would lie.
    Forget(std::move(entries), NotStored(why));
    return why;
  }
  if (absl::IsResourceExhausted(why)) {
    EnterDiskFull();
  }
  // Workers say hello again, which restores what only memory knew of them.
  // Watchers resume: should the batch be on disk, they missed its events.
  // One refused call is no exception. What its batch changed in memory alone
  // cannot be taken back: leases that ended took their deadlines and progress
  // along, workers have other sessions and are charged for longer, links were
  // opened, removed and answered, plans went on. To keep all that would take a
  // copy of leases, workers, links and plans at the start of every batch, for
  // what is a defect of ours whenever it happens.
  const absl::Status loads =
      absl::UnavailableError("the coordinator loads its state");
  links_.CloseAll(state_, settings_, false, loads);
  watchers_.CloseAll(loads);
  // A piece that cannot be stored never can: its client must not try for ever,
  // and the job is not planned on.
  const JobNumber failed_plan =
      absl::IsInternal(why) ? plans_.Begun() : JobNumber();
  plans_.Forget(absl::IsInternal(why) ? why : loads, loads);
  absl::Status status = Reload();
  if (const Job* job = state_.FindJob(failed_plan);
      status.ok() && job != nullptr && job->state == v1::JOB_STATE_PLANNING) {
    Apply(DecideCancel(
              state_, failed_plan,
              absl::StrCat("its plan could not be stored: ", why.message()),
              settings_, now_)
              .mutations);
  }
  if (status.ok() && disk_full_) {
    status = store_->ReleaseReserve();
  }
  if (status.ok() && one_by_one && !one_by_one_) {
    return RunOneByOne(std::move(entries), why);
  }
  Forget(std::move(entries),
         status.ok() && absl::IsInternal(why) ? why : NotStored(why));
  return status;
}

// One request that the store cannot take must not take its batch along.
absl::Status LoopCore::RunOneByOne(std::vector<Entry> entries,
                                   const absl::Status& why) {
  const int64_t failures_before = failures_;
  one_by_one_ = true;
  size_t num_again = 0;
  absl::Status status;
  while (status.ok() && num_again < entries.size()) {
    entries_.push_back({.call = std::move(entries[num_again].call)});
    ++num_again;
    entries_.back().call.run(*this);
    status = Fatal();
    if (status.ok()) {
      status = CommitBatch();
    }
  }
  one_by_one_ = false;
  if (status.ok() && failures_ == failures_before &&
      ++failures_in_row_ > kFailuresMax) {
    status = why;  // no call is to blame, and it fails again and again
  }
  if (!status.ok()) {
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<ptrdiff_t>(num_again));
    Forget(std::move(entries), NotStored(status));
  }
  return status;
}

void LoopCore::Forget(const absl::Status& why) {
  Forget(std::exchange(entries_, {}), why);
}

void LoopCore::Forget(std::vector<Entry> entries, const absl::Status& why) {
  for (Entry& entry : entries) {
    for (auto& answer : entry.answers) {
      answer(why);
    }
  }
}

}  // namespace qsweep
