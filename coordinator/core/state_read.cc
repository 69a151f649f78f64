// The reading half of State: look-ups, the spec of a task, the dump.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "coordinator/core/state.h"

namespace qsweep {
namespace {

template <typename Map, typename Key>
const typename Map::mapped_type* Find(const Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? nullptr : &it->second;
}

std::string JobLine(const Job& job) {
  std::string line = absl::StrCat(
      "job ", job.number.value(), " ", job.uuid.text(), " ",
      job.spec_digest.hex(), " '", job.name, "' owner=", job.owner,
      " kind=", job.kind, " priority=", job.priority,
      " max_retries=", job.max_retries, " max_fails=", job.max_fails);
  for (const auto& [key, value] : job.labels) {
    absl::StrAppend(&line, " ", key, "=", value);
  }
  absl::StrAppend(
      &line, " created=", absl::ToUnixMicros(job.created_at),
      " finished=", job.terminal() ? absl::ToUnixMicros(job.finished_at) : 0,
      " state=", v1::JobState_Name(job.state), " reason='", job.reason,
      "' total=", job.measurements_total, " reused=", job.measurements_reused,
      " done=", job.measurements_done, " skipped=", job.documents_skipped,
      " job_seq=", job.last_job_seq, " tasks=");
  for (const auto& [task, measurements] : job.tasks) {
    absl::StrAppend(&line, task.value(), ":", measurements, ",");
  }
  return line;
}

std::string TaskLine(const Task& task) {
  std::string line =
      absl::StrCat("task ", task.id.value(), " group=", task.group.value(), " ",
                   task.content_key.hex(), " documents=", task.num_documents,
                   " seconds=", task.estimated_seconds,
                   " state=", v1::TaskState_Name(task.state), " reason='",
                   task.reason, "' failed=", task.failed, " lost=", task.lost,
                   " preempted=", task.preempted,
                   " backoff_us=", absl::ToInt64Microseconds(task.backoff),
                   " result=", task.result_epoch.value(), ":",
                   task.result_digest.hex(), " grants=");
  for (const Grant& grant : task.grants) {
    absl::StrAppend(&line, grant.worker.text(), "/", grant.credential, "/",
                    grant.end ? LeaseEndName(*grant.end) : "held", ",");
  }
  if (task.lease) {
    absl::StrAppend(&line, " lease=", task.lease->worker.text(), "/",
                    task.lease->session.text());
  }
  absl::StrAppend(&line, " keys=");
  for (const TaskDocumentKey& key : task.documents) {
    absl::StrAppend(&line, key.language_index, ":", key.digest.hex(), ",");
  }
  return line;
}

std::string TokenLine(const Token& token) {
  return absl::StrCat("token ", token.id.value(), " ", token.secret.hex(),
                      " lifetime=", absl::FormatDuration(token.lifetime), " ",
                      ToProto(token).ShortDebugString());
}

}  // namespace

const Job* State::FindJob(JobNumber number) const {
  return Find(jobs_, number);
}

const Job* State::FindJob(const JobUuid& uuid) const {
  const JobNumber* number = Find(job_of_uuid_, uuid);
  return number == nullptr ? nullptr : FindJob(*number);
}

const Task* State::FindTask(TaskId id) const { return Find(tasks_, id); }

const Task* State::FindTaskByKey(const Digest& content_key) const {
  const TaskId* id = Find(task_of_key_, content_key);
  return id == nullptr ? nullptr : FindTask(*id);
}

const TaskGroup* State::FindGroup(TaskGroupId id) const {
  return Find(groups_, id);
}

const Worker* State::FindWorker(const WorkerUuid& uuid) const {
  return Find(workers_, uuid);
}

const Worker* State::FindWorkerBySession(const SessionId& session) const {
  if (session.empty()) {
    return nullptr;
  }
  for (const auto& [uuid, worker] : workers_) {
    if (worker.session == session) {
      return &worker;
    }
  }
  return nullptr;
}

TokenId State::next_token() const {
  return tokens_.empty() ? TokenId(1) : tokens_.rbegin()->first.Next();
}

const Token* State::FindToken(TokenId id) const { return Find(tokens_, id); }

const Token* State::FindTokenBySecret(const Digest& secret) const {
  const TokenId* id = Find(token_of_secret_, secret);
  return id == nullptr ? nullptr : FindToken(*id);
}

const std::set<TaskId>& State::LiveTasksOfModel(const Digest& model) const {
  static const std::set<TaskId> kNone;
  const std::set<TaskId>* tasks = Find(live_tasks_of_model_, model);
  return tasks == nullptr ? kNone : *tasks;
}

v1::TaskSpec State::MakeTaskSpec(const Task& task) const {
  QSWEEP_CHECK(task.state != v1::TASK_STATE_DONE);
  v1::TaskSpec spec = *group(task.group).prototype;
  spec.set_task_id(static_cast<uint64_t>(task.id.value()));
  spec.set_content_key(task.content_key.bytes());
  spec.set_estimated_seconds(task.estimated_seconds);
  for (const TaskDocumentKey& key : task.documents) {
    v1::TaskDocument* document = spec.add_documents();
    document->set_digest(key.digest.bytes());
    document->set_language_index(key.language_index);
  }
  return spec;
}

std::string State::DumpDurable() const {
  std::vector<std::string> lines;
  lines.push_back(absl::StrCat(
      "counters epoch=", coordinator_epoch_, " job=", last_job_.value(),
      " task=", last_task_.value(), " group=", last_group_.value(),
      " event=", last_event_.value()));
  for (const auto& [number, job] : jobs_) {
    lines.push_back(JobLine(job));
  }
  for (const auto& [id, group] : groups_) {
    lines.push_back(
        absl::StrCat("group ", id.value(), " ",
                     Digest::Of(group.prototype->SerializeAsString()).hex()));
  }
  for (const auto& [id, task] : tasks_) {
    lines.push_back(TaskLine(task));
  }
  for (const auto& [id, token] : tokens_) {
    lines.push_back(TokenLine(token));
  }
  for (const auto& [uuid, worker] : workers_) {
    lines.push_back(absl::StrCat(
        "worker ", uuid.text(), " '", worker.name, "' build=", worker.build_id,
        " boot_seq=", worker.boot_seq, " credential=", worker.credential,
        " mode=", WorkerModeName(worker.mode), " '", worker.mode_reason,
        "' blamed=", worker.blamed, " done=", worker.tasks_done,
        " seen=", absl::ToUnixMicros(worker.last_seen), " devices=",
        absl::StrJoin(worker.devices, ",",
                      [](std::string* out, const v1::Device& device) {
                        out->append(device.SerializeAsString());
                      })));
  }
  for (const auto& [name, digest] : corpora_) {
    lines.push_back(absl::StrCat("corpus '", name, "' ", digest.hex()));
  }
  for (const Digest& digest : models_) {
    lines.push_back(absl::StrCat("model ", digest.hex()));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace qsweep
