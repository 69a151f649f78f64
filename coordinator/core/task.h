#ifndef QSWEEP_COORDINATOR_CORE_TASK_H_
#define QSWEEP_COORDINATOR_CORE_TASK_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/ids.h"
#include "coordinator/core/compact.h"
#include "coordinator/core/mutation.h"
#include "qsweep/v1/task.pb.h"

namespace qsweep {

// A task as State has it: 88 bytes while it waits for its first lease.
// Members are durable unless they stand under `Memory`.

// A task's grants are numbered by epoch from 1: grants[epoch - 1].
struct Grant {
  WorkerUuid worker;
  std::string credential;
  std::optional<LeaseEnd> end;  // nothing: still held

  bool failed() const {
    return end == LeaseEnd::kFailed || end == LeaseEnd::kStalled;
  }
};

struct Lease {
  WorkerUuid worker;
  SessionId session;

  // Memory
  SteadyTime granted_at;
  SteadyTime deadline;
  bool listed = false;     // by the worker, in this life of the coordinator
  uint64_t sent_seq = 0;   // first DesiredState that carried it; 0: none yet
  SteadyTime progress_at;  // last growth of progress.progress_seq
  // Set when the attempt is first seen to run.
  SteadyTime run_deadline = SteadyTime::InfiniteFuture();
  absl::Duration progress_limit;  // without a sign of progress
  // Set when the worker first says that it has the result.
  SteadyTime commit_deadline = SteadyTime::InfiniteFuture();
  v1::TaskProgress progress;
};

// A document of a task: its number in State::documents(), and the index of its
// language in the group's prototype.
struct DocumentRef {
  uint32_t document = 0;
  uint32_t language_index = 0;
};

// What a task has from its first lease on, when it was given up, or as an
// audit.
struct TaskHistory {
  std::string reason;
  int failed = 0;  // charged attempts
  int lost = 0;
  int preempted = 0;
  absl::Duration backoff;     // of the last move to BACKOFF
  int32_t num_documents = 0;  // DONE: that it had
  Digest result_digest;       // DONE: payload that was stored
  Epoch result_epoch;         // DONE
  TaskId audit_of;            // valid: it checks the result of that task
  std::vector<Grant> grants;  // size = epoch

  // Memory
  SteadyTime ready_at;  // BACKOFF: end of the delay
};

struct Task {
  Compact<TaskId> id;
  Compact<TaskGroupId> group;
  float estimated_seconds = 0;
  v1::TaskState state = v1::TASK_STATE_READY;
  Digest content_key;
  SmallList<DocumentRef> documents;    // empty once DONE
  SmallList<Compact<JobNumber>> jobs;  // subscribers, ascending
  Sparse<TaskHistory> history;
  Boxed<Lease> lease;  // LEASED

  Epoch epoch() const {
    return Epoch(static_cast<int64_t>(history->grants.size()));
  }
  bool IsOf(JobNumber job) const {
    return std::ranges::binary_search(jobs, Compact<JobNumber>(job));
  }
  int32_t num_documents() const {
    return state == v1::TASK_STATE_DONE
               ? history->num_documents
               : static_cast<int32_t>(documents.size());
  }
  bool given_up() const {
    return state == v1::TASK_STATE_QUARANTINED ||
           state == v1::TASK_STATE_CANCELLED;
  }
  bool live() const {  // BLOCKED, READY, LEASED or BACKOFF
    return state == v1::TASK_STATE_BLOCKED || state == v1::TASK_STATE_READY ||
           state == v1::TASK_STATE_LEASED || state == v1::TASK_STATE_BACKOFF;
  }
};
static_assert(sizeof(Task) == 88);  // a million of them lie in memory

// Tasks by id: ids are given in sequence, so they are places in chunks.
// Iteration is by ascending id, over pairs (TaskId, const Task&). Value type;
// pointers live until the task is erased.
class TaskTable {
 public:
  const Task* Find(TaskId id) const {
    const auto chunk = static_cast<size_t>(id.value()) / kChunk;
    if (!id.valid() || chunk >= chunks_.size() || !chunks_[chunk]) {
      return nullptr;
    }
    const Task& task = (*chunks_[chunk])[Place(id)];
    return task.id.valid() ? &task : nullptr;
  }
  Task* Find(TaskId id) {
    return const_cast<Task*>(std::as_const(*this).Find(id));
  }
  const Task& at(TaskId id) const {
    const Task* task = Find(id);
    QSWEEP_CHECK(task != nullptr);
    return *task;
  }
  Task& at(TaskId id) { return const_cast<Task&>(std::as_const(*this).at(id)); }

  // Its id must be valid and new.
  Task& Add(Task task) {
    const TaskId id = task.id;
    QSWEEP_CHECK(id.valid() && Find(id) == nullptr);
    const auto chunk = static_cast<size_t>(id.value()) / kChunk;
    if (chunk >= chunks_.size()) {
      chunks_.resize(chunk + 1);
      sizes_.resize(chunk + 1);
    }
    ++sizes_[chunk];
    if (!chunks_[chunk]) {
      chunks_[chunk] = Boxed<Chunk>(Chunk());
    }
    ++size_;
    return (*chunks_[chunk])[Place(id)] = std::move(task);
  }
  void Erase(TaskId id) {
    at(id) = Task();
    --size_;
    const auto chunk = static_cast<size_t>(id.value()) / kChunk;
    if (--sizes_[chunk] == 0) {
      chunks_[chunk].reset();
    }
  }
  // That take memory.
  size_t num_chunks() const {
    return static_cast<size_t>(std::ranges::count_if(
        chunks_, [](const auto& chunk) { return chunk.has_value(); }));
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  class const_iterator {
   public:
    const_iterator(const TaskTable& table, size_t number)
        : table_(&table), number_(number) {
      Skip();
    }
    std::pair<TaskId, const Task&> operator*() const {
      const Task& task = table_->at(TaskId(static_cast<int64_t>(number_)));
      return {task.id, task};
    }
    const_iterator& operator++() {
      ++number_;
      Skip();
      return *this;
    }
    bool operator==(const const_iterator& other) const {
      return number_ == other.number_;
    }

   private:
    void Skip() {
      while (number_ < table_->end_number() &&
             table_->Find(TaskId(static_cast<int64_t>(number_))) == nullptr) {
        ++number_;
      }
    }
    const TaskTable* table_;
    size_t number_;
  };
  const_iterator begin() const { return const_iterator(*this, 1); }
  const_iterator end() const { return const_iterator(*this, end_number()); }
  // From the first task at or above `id` on.
  const_iterator From(TaskId id) const {
    const auto number = static_cast<size_t>(std::max<int64_t>(id.value(), 1));
    return const_iterator(*this, std::min(number, end_number()));
  }

 private:
  static constexpr size_t kChunk = 256;
  using Chunk = std::array<Task, kChunk>;

  static size_t Place(TaskId id) {
    return static_cast<size_t>(id.value()) % kChunk;
  }
  size_t end_number() const {
    return std::max<size_t>(chunks_.size() * kChunk, 1);
  }

  std::vector<Boxed<Chunk>> chunks_;
  std::vector<uint16_t> sizes_;  // tasks of each
  size_t size_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_TASK_H_
