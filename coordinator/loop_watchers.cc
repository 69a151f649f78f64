#include "coordinator/loop_watchers.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/access.h"
#include "coordinator/core/lists.h"

namespace qsweep {
namespace {

constexpr int kSlice = 500;  // events read at once: the loop has more to do

}  // namespace

void Watchers::Add(JobNumber job, EventSeq after,
                   std::shared_ptr<WatchSink> sink, Caller caller) {
  watchers_.push_back({.job = job,
                       .after = after,
                       .sink = std::move(sink),
                       .caller = std::move(caller)});
}

void Watchers::CloseOf(const std::string& identity, const absl::Status& why) {
  std::erase_if(watchers_, [&](const Watcher& watcher) {
    if (watcher.caller.identity != identity) {
      return false;
    }
    watcher.sink->Close(why);
    return true;
  });
}

void Watchers::CloseExpired(const State& state, const Now& now) {
  std::erase_if(watchers_, [&](const Watcher& watcher) {
    const absl::Status valid = CheckIdentity(state, watcher.caller.identity,
                                             watcher.caller.secret, now);
    if (valid.ok()) {
      return false;
    }
    watcher.sink->Close(valid);
    return true;
  });
}

SteadyTime Watchers::NextExpiry(const State& state, const Now& now) const {
  SteadyTime next = SteadyTime::InfiniteFuture();
  for (const Watcher& watcher : watchers_) {
    const Token* token = FindTokenOf(state, watcher.caller.identity);
    if (token != nullptr && token->expires_at != absl::InfiniteFuture()) {
      next = std::min(next, now.steady + (token->expires_at - now.wall));
    }
  }
  return next;
}

bool Watchers::Watches(const Task& task) const {
  return std::ranges::any_of(watchers_, [&task](const Watcher& watcher) {
    return task.IsOf(watcher.job);
  });
}

void Watchers::SendEvent(Watcher& watcher, const v1::DurableEvent& event) {
  const EventSeq seq(static_cast<int64_t>(event.seq()));
  if (watcher.gone || seq <= watcher.after) {
    return;
  }
  v1::WatchEvent message;
  *message.mutable_durable() = event;
  if (watcher.sink->Send(std::move(message))) {
    watcher.after = seq;
  } else {
    watcher.gone = true;
  }
}

void Watchers::OnCommitted(const std::vector<Mutation>& batch) {
  if (watchers_.empty()) {
    return;
  }
  for (const Mutation& mutation : batch) {
    const auto* appended = std::get_if<EventAppended>(&mutation);
    if (appended == nullptr) {
      continue;
    }
    for (Watcher& watcher : watchers_) {
      if (watcher.caught_up && watcher.job == appended->job) {
        SendEvent(watcher, *appended->event);
      }
    }
  }
}

void Watchers::OnProgress(const State& state, const Task& task) {
  if (!task.lease || !Watches(task)) {
    return;
  }
  v1::WatchEvent message;
  v1::TaskProgressFrame* frame = message.mutable_progress();
  frame->set_task_id(static_cast<uint64_t>(task.id.value()));
  frame->set_epoch(static_cast<uint64_t>(task.epoch().value()));
  frame->set_worker(state.FindWorker(task.lease->worker)->name);
  *frame->mutable_progress() = task.lease->progress;
  for (const v1::ConfigurationSpec& configuration :
       state.group(task.group).prototype->configurations()) {
    frame->add_layer_sets(configuration.layer_set());
    frame->add_quantizers(configuration.quantizer());
  }
  for (Watcher& watcher : watchers_) {
    if (!watcher.gone && watcher.greeted && task.IsOf(watcher.job)) {
      watcher.gone = !watcher.sink->Send(message);
    }
  }
}

absl::Status Watchers::CatchUp(Watcher& watcher, Store& store) {
  const int room = std::min(kSlice, watcher.sink->Room());
  watcher.full = room <= 0;
  if (watcher.full) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<v1::DurableEvent> events,
                          store.ReadEvents(watcher.job, watcher.after, room));
  for (const v1::DurableEvent& event : events) {
    SendEvent(watcher, event);
  }
  watcher.caught_up = events.size() < static_cast<size_t>(room);
  return absl::OkStatus();
}

absl::Status Watchers::Advance(const State& state, Store& store) {
  for (Watcher& watcher : watchers_) {
    const Job* known = state.FindJob(watcher.job);
    if (known == nullptr) {  // deleted meanwhile
      watcher.sink->Close(MakeError(
          kJobNotFound, absl::StrCat("no job ", watcher.job.value())));
      watcher.gone = true;
      continue;
    }
    const Job& job = *known;
    if (!watcher.greeted) {
      v1::WatchEvent snapshot;
      *snapshot.mutable_snapshot() = MakeJobSummary(job);
      watcher.greeted = true;
      watcher.gone = !watcher.sink->Send(std::move(snapshot));
    }
    if (!watcher.caught_up && !watcher.gone) {
      QSWEEP_RETURN_IF_ERROR(CatchUp(watcher, store));
    }
    if (watcher.gone) {
      watcher.sink->Close(
          MakeError(kOverloaded, "the watcher reads too slowly", "",
                    "Watch again from the last sequence number."));
    } else if (watcher.caught_up && job.terminal()) {
      watcher.sink->Close(absl::OkStatus());
      watcher.gone = true;
    }
  }
  watchers_.remove_if([](const Watcher& watcher) { return watcher.gone; });
  return absl::OkStatus();
}

SteadyTime Watchers::NextAdvance(SteadyTime now) const {
  SteadyTime next = SteadyTime::InfiniteFuture();
  for (const Watcher& watcher : watchers_) {
    if (!watcher.greeted || (!watcher.caught_up && !watcher.full)) {
      next = now;
    }
  }
  return next;
}

void Watchers::CloseAll(const absl::Status& why) {
  for (Watcher& watcher : watchers_) {
    watcher.sink->Close(why);
  }
  watchers_.clear();
}

}  // namespace qsweep
