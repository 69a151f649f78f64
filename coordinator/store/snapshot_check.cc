#include "coordinator/store/snapshot_check.h"

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "coordinator/store/codec.h"

namespace qsweep {
namespace {

// Far above any number that is ever given, far below an overflow.
constexpr int64_t kMostNumber = int64_t{1} << 53;

bool IsNumber(int64_t value) { return value >= 0 && value <= kMostNumber; }

absl::Status CheckNumbers(const StateSnapshot& snapshot) {
  for (const int64_t counter :
       {snapshot.coordinator_epoch, snapshot.last_group.value(),
        snapshot.last_event.value()}) {
    if (!IsNumber(counter)) {
      return DamagedColumn(absl::StrCat("the counter ", counter));
    }
  }
  for (const Job& job : snapshot.jobs) {
    if (!IsNumber(job.number.value()) || !IsNumber(job.last_job_seq) ||
        !IsNumber(job.measurements_total) ||
        !IsNumber(job.measurements_reused) ||
        !IsNumber(job.measurements_done) || !IsNumber(job.documents_skipped)) {
      return DamagedColumn(
          absl::StrCat("a number of job ", job.number.value()));
    }
  }
  return absl::OkStatus();
}

// A task is leased exactly when its last grant is open, done exactly when it
// has the result of one, and each grant was to somebody who is known.
absl::Status CheckLease(const Task& task,
                        const absl::flat_hash_set<WorkerUuid>& workers) {
  const auto damaged = [&task](absl::string_view what) {
    return DamagedColumn(absl::StrCat("task ", task.id.value(), " ", what));
  };
  const std::vector<Grant>& grants = task.history->grants;
  for (size_t i = 0; i < grants.size(); ++i) {
    const bool open = !grants[i].end.has_value();
    const bool last = i + 1 == grants.size();
    if (open && !(last && task.state == v1::TASK_STATE_LEASED)) {
      return damaged("with a lease that never ended");
    }
    if (!workers.contains(grants[i].worker)) {
      return damaged("was leased to an unknown worker");
    }
  }
  if (task.state == v1::TASK_STATE_LEASED &&
      (grants.empty() || grants.back().end.has_value())) {
    return damaged("is leased without a lease");
  }
  if (task.history->result_epoch > task.epoch() ||
      task.history->result_epoch.valid() !=
          (task.state == v1::TASK_STATE_DONE)) {
    return damaged("with the result of a lease it never had");
  }
  return absl::OkStatus();
}

absl::Status CheckTasks(const StateSnapshot& snapshot) {
  absl::flat_hash_map<TaskGroupId, const TaskGroup*> groups;
  for (const TaskGroup& group : snapshot.groups) {
    groups.emplace(group.id, &group);
  }
  absl::flat_hash_set<WorkerUuid> workers;
  for (const Worker& worker : snapshot.workers) {
    workers.insert(worker.uuid);
  }
  absl::flat_hash_set<Digest> given_up;
  for (const auto& [id, task] : snapshot.tasks) {
    if (task.given_up() && !given_up.insert(task.content_key).second) {
      return DamagedColumn(absl::StrCat("task ", id.value(),
                                        " given up with another's content"));
    }
    const auto group = groups.find(task.group);
    if (group == groups.end() || !IsNumber(id.value())) {
      return DamagedColumn(absl::StrCat("task ", id.value(), " of no group"));
    }
    const auto languages =
        static_cast<uint32_t>(group->second->prototype->languages_size());
    for (const DocumentRef& document : task.documents) {
      if (document.language_index >= languages) {
        return DamagedColumn(absl::StrCat("task ", id.value(),
                                          " with a document of no language"));
      }
    }
    QSWEEP_RETURN_IF_ERROR(CheckLease(task, workers));
  }
  return absl::OkStatus();
}

// They come in order of their numbers, so whom one joined with comes first.
absl::Status CheckTokens(const StateSnapshot& snapshot) {
  absl::flat_hash_set<TokenId> known;
  absl::flat_hash_set<Digest> secrets;
  for (const Token& token : snapshot.tokens) {
    if (!IsNumber(token.id.value()) || !secrets.insert(token.secret).second ||
        (token.joined_with.valid() && !known.contains(token.joined_with))) {
      return DamagedColumn(absl::StrCat("token ", token.id.value()));
    }
    known.insert(token.id);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSnapshot(const StateSnapshot& snapshot) {
  QSWEEP_RETURN_IF_ERROR(CheckNumbers(snapshot));
  QSWEEP_RETURN_IF_ERROR(CheckTasks(snapshot));
  return CheckTokens(snapshot);
}

}  // namespace qsweep
