#ifndef QSWEEP_COORDINATOR_CORE_LIVE_TASKS_H_
#define QSWEEP_COORDINATOR_CORE_LIVE_TASKS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "coordinator/core/compact.h"

namespace qsweep {

// Tasks by the number of a document: four bytes for a document that one task
// has, which is the rule. Value type.
class LiveTasks {
 public:
  // Ascending; valid until the next change.
  std::span<const Compact<TaskId>> On(uint32_t document) const {
    if (document >= one_.size() || one_[document].value() == 0) {
      return {};
    }
    if (one_[document].value() < kMany) {
      return {&one_[document], 1};
    }
    const auto& many =
        many_[static_cast<size_t>(one_[document].value() - kMany)];
    return {many.begin(), many.size()};
  }

  // The task must not be there.
  void Add(uint32_t document, TaskId task) {
    if (document >= one_.size()) {
      one_.resize(document + size_t{1});
    }
    Compact<TaskId>& slot = one_[document];
    if (slot.value() == 0) {
      slot = task;
      return;
    }
    if (slot.value() < kMany) {
      many_.push_back({slot});
      slot = TaskId(kMany + static_cast<int64_t>(many_.size()) - 1);
    }
    many_[static_cast<size_t>(slot.value() - kMany)].InsertSorted(task);
  }

  // The task must be there.
  void Remove(uint32_t document, TaskId task) {
    Compact<TaskId>& slot = one_[document];
    if (slot.value() < kMany) {
      QSWEEP_CHECK(slot == Compact<TaskId>(task));
      slot = TaskId();
    } else {
      QSWEEP_CHECK(
          many_[static_cast<size_t>(slot.value() - kMany)].EraseSorted(task));
    }
  }

 private:
  // From here on a slot is a place in many_.
  static constexpr int64_t kMany = int64_t{1} << 31;

  std::vector<Compact<TaskId>> one_;
  std::vector<SmallList<Compact<TaskId>>> many_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_LIVE_TASKS_H_
