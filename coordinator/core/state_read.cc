// The reading half of State: look-ups, the spec of a task, the dump.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "coordinator/core/state.h"

namespace qsweep {
namespace {

template <typename Map, typename Key>
const typename Map::mapped_type* Find(const Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? nullptr : &it->second;
}

// Where Describe puts the durable members: a text for people.
class TextOut {
 public:
  void Begin(absl::string_view kind) {
    absl::StrAppend(&text_, text_.empty() ? "" : "\n", kind);
  }
  template <typename T>
  void operator()(absl::string_view name, const T& value) {
    absl::StrAppend(&text_, " ", name, "=");
    Append(value);
  }
  std::string Take() { return std::move(text_); }

 private:
  template <typename T>
  void Append(const T& value) {
    if constexpr (std::is_base_of_v<google::protobuf::MessageLite, T>) {
      text_ += Digest::Of(value.SerializeAsString()).hex();
    } else {
      absl::StrAppend(&text_, value);
    }
  }
  void Append(const Digest& digest) { text_ += digest.hex(); }
  template <typename Tag>
  void Append(const UuidId<Tag>& id) {
    text_ += id.text();
  }
  template <typename Tag>
  void Append(const IntegerId<Tag>& id) {
    absl::StrAppend(&text_, id.value());
  }
  template <typename Id>
  void Append(const Compact<Id>& id) {
    absl::StrAppend(&text_, id.value());
  }
  void Append(absl::Time time) {
    absl::StrAppend(&text_, absl::ToUnixMicros(time));
  }
  void Append(absl::Duration duration) {
    text_ += absl::FormatDuration(duration);
  }
  std::string text_;
};

// And a hash, for machines.
class HashOut {
 public:
  void Begin(absl::string_view kind) { hash_ = absl::HashOf(hash_, kind); }
  template <typename T>
  void operator()(absl::string_view, const T& value) {
    if constexpr (std::is_base_of_v<google::protobuf::MessageLite, T>) {
      bytes_.clear();
      value.AppendToString(&bytes_);
      hash_ = absl::HashOf(hash_, bytes_);
    } else if constexpr (std::is_same_v<T, absl::Time>) {
      hash_ = absl::HashOf(hash_, absl::ToUnixMicros(value));
    } else if constexpr (std::is_convertible_v<const T&, absl::string_view>) {
      hash_ = absl::HashOf(hash_, absl::string_view(value));
    } else {
      hash_ = absl::HashOf(hash_, value);
    }
  }
  uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 0;
  std::string bytes_;
};

template <typename Out>
void Describe(const Job& job, Out& out) {
  out.Begin("job");
  out("number", job.number);
  out("uuid", job.uuid);
  out("spec", job.spec_digest);
  out("name", job.name);
  out("owner", job.owner);
  out("kind", static_cast<int>(job.kind));
  out("priority", job.priority);
  out("max_retries", job.max_retries);
  out("max_fails", job.max_fails);
  for (const auto& [key, value] : job.labels) {
    out("label", key);
    out("is", value);
  }
  out("created", job.created_at);
  out("finished", job.terminal() ? job.finished_at : absl::UnixEpoch());
  out("state", v1::JobState_Name(job.state));
  out("reason", job.reason);
  out("total", job.measurements_total);
  out("reused", job.measurements_reused);
  out("done", job.measurements_done);
  out("skipped", job.documents_skipped);
  out("job_seq", job.last_job_seq);
  for (const auto& [task, measurements] : job.tasks) {
    out("task", task);
    out("brings", measurements);
  }
}

template <typename Out>
void Describe(const State& state, const Task& task, Out& out) {
  const TaskHistory& history = *task.history;
  out.Begin("task");
  out("id", task.id);
  out("group", TaskGroupId(task.group));
  out("key", task.content_key);
  out("documents", task.num_documents());
  out("seconds", task.estimated_seconds);
  out("state", v1::TaskState_Name(task.state));
  out("reason", history.reason);
  out("failed", history.failed);
  out("lost", history.lost);
  out("preempted", history.preempted);
  out("backoff", history.backoff);
  out("result_epoch", history.result_epoch);
  out("result", history.result_digest);
  out("audit_of", history.audit_of);
  for (const Grant& grant : history.grants) {
    out("grant", grant.worker);
    out("credential", grant.credential);
    out("end", grant.end ? LeaseEndName(*grant.end) : "held");
  }
  if (task.lease) {
    out("lease", task.lease->worker);
    out("session", task.lease->session);
  }
  for (const DocumentRef& ref : task.documents) {
    out("language", ref.language_index);
    out("document", state.documents()[ref.document]);
  }
}

template <typename Out>
void Describe(const Worker& worker, Out& out) {
  out.Begin("worker");
  out("uuid", worker.uuid);
  out("name", worker.name);
  out("build", worker.build_id);
  out("boot_seq", worker.boot_seq);
  out("credential", worker.credential);
  out("mode", WorkerModeName(worker.mode));
  out("mode_reason", worker.mode_reason);
  out("blamed", worker.blamed);
  out("done", worker.tasks_done);
  out("attached", worker.attached);
  out("seen", worker.last_seen);
  for (const v1::Device& device : worker.devices) {
    out("device", device);
  }
}

template <typename Out>
void Describe(const Token& token, Out& out) {
  out.Begin("token");
  out("id", token.id);
  out("secret", token.secret);
  out("lifetime", token.lifetime);
  out("rest", ToProto(token));
}

}  // namespace

const Job* State::FindJob(JobNumber number) const {
  return Find(jobs_, number);
}

const Job* State::FindJob(const JobUuid& uuid) const {
  const JobNumber* number = Find(job_of_uuid_, uuid);
  return number == nullptr ? nullptr : FindJob(*number);
}

const Task* State::FindTask(TaskId id) const { return tasks_.Find(id); }

const Task* State::FindGivenUp(const Digest& content_key) const {
  const auto number = given_up_.Find(content_key, KeyOfTask());
  return number ? FindTask(TaskId(int64_t{*number})) : nullptr;
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

std::span<const Compact<TaskId>> State::LiveTasksOn(
    const Digest& model, const std::string& evaluation,
    const Digest& document) const {
  const size_t* panel = Find(panels_, std::pair(model, evaluation));
  const auto number = documents_.Find(document);
  return panel != nullptr && number ? live_on_[*panel].On(*number)
                                    : std::span<const Compact<TaskId>>();
}

v1::TaskSpec State::MakeTaskSpec(const Task& task) const {
  QSWEEP_CHECK(task.state != v1::TASK_STATE_DONE);
  v1::TaskSpec spec = *group(task.group).prototype;
  spec.set_task_id(static_cast<uint64_t>(task.id.value()));
  spec.set_content_key(task.content_key.bytes());
  spec.set_estimated_seconds(task.estimated_seconds);
  for (const DocumentRef& ref : task.documents) {
    v1::TaskDocument* document = spec.add_documents();
    document->set_digest(documents_[ref.document].bytes());
    document->set_language_index(ref.language_index);
  }
  return spec;
}

template <typename Out>
void State::DescribeDurable(Out& out) const {
  out.Begin("counters");
  out("epoch", coordinator_epoch_);
  out("job", last_job_);
  out("task", last_task_);
  out("group", last_group_);
  out("event", last_event_);
  for (const auto& [number, job] : jobs_) {
    Describe(job, out);
  }
  for (const auto& [id, group] : groups_) {
    out.Begin("group");
    out("id", id);
    out("prototype", *group.prototype);
  }
  for (const auto& [id, task] : tasks_) {
    Describe(*this, task, out);
  }
  for (const auto& [id, token] : tokens_) {
    Describe(token, out);
  }
  for (const auto& [uuid, worker] : workers_) {
    Describe(worker, out);
  }
  for (const auto& [name, digest] : corpora_) {
    out.Begin("corpus");
    out("name", name);
    out("digest", digest);
  }
  for (const Digest& digest : models_) {
    out.Begin("model");
    out("digest", digest);
  }
  speeds_.ForEach([&out](const Digest& model, const std::string& operation,
                         const std::string& device, double value) {
    out.Begin("speed");
    out("model", model);
    out("operation", operation);
    out("device", device);
    out("value", value);
  });
}

std::string State::DumpDurable() const {
  TextOut out;
  DescribeDurable(out);
  return out.Take();
}

uint64_t State::HashDurable() const {
  HashOut out;
  DescribeDurable(out);
  return out.hash();
}

}  // namespace qsweep
