// What each lease costs: every second of a busy worker is in one of them.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "tests/sim/oracles.h"

namespace qsweep::sim {

// What was held is held from now on, the smaller task first: no coordinator saw
// the time before.
void Oracles::RestartLedger() {
  spans_.clear();
  for (const TaskId id : durable_.leased_tasks()) {
    const Task& task = durable_.task(id);
    spans_[task.lease->worker].push_back(
        {.lease = {id, task.epoch()}, .begin = schedule_.now()});
  }
}

void Oracles::CheckCharge(const Key& lease, const WorkerUuid& worker,
                          absl::Duration charged) {
  counts_.checks.Add("lease charged");
  std::vector<Span>& spans = spans_[worker];
  const auto own = std::ranges::find(spans, lease, &Span::lease);
  if (own == spans.end()) {
    Fail(15, absl::StrCat("task ", lease.first.value(), " epoch ",
                          lease.second.value(), " is charged but not held"));
    return;
  }
  own->end = written_at_;
  SteadyTime from = own->begin;
  for (const Span& older : spans) {
    const bool before = older.begin < own->begin ||
                        (older.begin == own->begin && older.lease < own->lease);
    if (before) {
      from = std::max(from, std::min(older.end, written_at_));
    }
  }
  if (from > own->begin) {
    counts_.checks.Add("lease charged from the end of another");
  }
  if (charged != written_at_ - from) {
    Fail(15, absl::StrCat("task ", lease.first.value(), " epoch ",
                          lease.second.value(), " is charged ",
                          absl::FormatDuration(charged), " instead of ",
                          absl::FormatDuration(written_at_ - from)));
  }
  charges_[lease] = charged;
}

std::optional<absl::Duration> Oracles::ChargeOf(TaskId task,
                                                Epoch epoch) const {
  const auto it = charges_.find({task, epoch});
  return it == charges_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace qsweep::sim
