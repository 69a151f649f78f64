#include "tests/sim/small_world.h"

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "coordinator/core/attach.h"
#include "coordinator/core/commit.h"
#include "coordinator/core/lease.h"
#include "tests/support/state_builder.h"
#include "tests/support/state_snapshot.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::sim {
namespace {

std::string Bytes16(const std::string& name) {
  return Digest::Of(name).bytes().substr(0, 16);
}

LeaseKey KeyOf(const v1::ReleaseTaskRequest& request) {
  return {TaskId(static_cast<int64_t>(request.task_id())),
          Epoch(static_cast<int64_t>(request.epoch()))};
}

LeaseKey KeyOf(const v1::ResultEnvelope& envelope) {
  return {TaskId(static_cast<int64_t>(envelope.task_id())),
          Epoch(static_cast<int64_t>(envelope.epoch()))};
}

}  // namespace

SmallWorld::SmallWorld() : now_(testing::TestNow().steady) {
  auto coordinator = std::make_shared<Coordinator>();
  coordinator->state = testing::StateBuilder()
                           .Job({.measurements = 3})
                           .Task({.model = "a", .documents = {"d1"}})
                           .Task({.model = "a", .documents = {"d2"}})
                           .Task({.model = "b", .documents = {"d3"}})
                           .Build();
  coordinator_ = std::move(coordinator);
  for (int i = 0; i < kWorkers; ++i) {
    auto worker = std::make_shared<WorkerProcess>();
    worker->uuid = Bytes16(absl::StrCat("worker ", i));
    worker->history = static_cast<uint64_t>(i);
    workers_[i] = std::move(worker);
    Boot(i);
  }
  // Hello, welcome, and the first beat of each, which the leases answer.
  for (int i = 0; i < 3 * kWorkers; ++i) {
    Deliver(0, false);
  }
}

Now SmallWorld::now() const {
  const absl::Duration since = now_ - testing::TestNow().steady;
  return testing::TestNow(since);
}

SmallWorld::WorkerProcess& SmallWorld::Change(int worker) {
  const WorkerProcess& old = *workers_[worker];
  auto changed = std::make_shared<WorkerProcess>();
  changed->core =
      old.core == nullptr ? nullptr : std::make_unique<AgentCore>(*old.core);
  changed->history = old.history;
  changed->boot_seq = old.boot_seq;
  changed->uuid = old.uuid;
  changed->stream = old.stream;
  changed->spool = old.spool;
  changed->releases = old.releases;
  changed->running = old.running;
  WorkerProcess& result = *changed;
  workers_[worker] = std::move(changed);
  return result;
}

SmallWorld::Coordinator& SmallWorld::Change() {
  auto changed = std::make_shared<Coordinator>(*coordinator_);
  Coordinator& result = *changed;
  coordinator_ = std::move(changed);
  return result;
}

uint64_t SmallWorld::Key() const {
  std::vector<uint64_t> wires;
  for (const MessagePtr& message : wires_) {
    wires.push_back(message->id);
  }
  std::ranges::sort(wires);
  return absl::HashOf(coordinator_->history, workers_[0]->history,
                      workers_[1]->history, wires,
                      absl::ToInt64Microseconds(now_.since_boot()));
}

std::string SmallWorld::MessageText(size_t index) const {
  const Message& message = *wires_[index];
  constexpr const char* kNames[] = {"report",        "hangup",        "result",
                                    "release",       "close",         "desired",
                                    "commit answer", "release answer"};
  return absl::StrCat(kNames[message.body.index()],
                      message.body.index() < 4 ? " of w" : " to w",
                      message.worker + 1);
}

void SmallWorld::Send(int worker, uint64_t history, Body body) {
  wires_.push_back(std::make_shared<const Message>(
      Message{.id = absl::HashOf(history, worker, sent_++),
              .worker = worker,
              .body = std::move(body)}));
}

void SmallWorld::Boot(int worker) {
  WorkerProcess& process = Change(worker);
  AgentSettings settings;
  settings.seed = static_cast<uint64_t>(worker);
  settings.hello.set_protocol_min(1);
  settings.hello.set_protocol_max(1);
  settings.hello.set_worker_uuid(process.uuid);
  settings.hello.set_boot_seq(++process.boot_seq);
  settings.hello.set_boot_id(
      Bytes16(absl::StrCat("boot ", worker, " ", process.boot_seq)));
  settings.hello.set_name(absl::StrCat("w", worker + 1));
  process.core = std::make_unique<AgentCore>(settings);
  process.running.reset();
  process.releases.clear();
  process.stream = 0;
  event::Started started;
  for (const auto& [lease, envelope] : process.spool) {
    started.spooled.push_back(lease);
  }
  Feed(worker, std::move(started), 1);
}

void SmallWorld::Feed(int worker, AgentEvent event, uint64_t id) {
  WorkerProcess& process = Change(worker);
  sent_ = 0;
  process.history = absl::HashOf(process.history, id,
                                 absl::ToInt64Microseconds(now_.since_boot()));
  std::deque<AgentEvent> next = {std::move(event)};
  while (!next.empty()) {
    const AgentEvent one = std::move(next.front());
    next.pop_front();
    for (const AgentAction& action : process.core->Step(one, now_)) {
      Do(worker, action, next);
    }
  }
}

// What takes no time of its own is answered at once.
void SmallWorld::Do(int worker, const AgentAction& action,
                    std::deque<AgentEvent>& next) {
  WorkerProcess& process = *workers_[worker];  // the copy that Feed made
  const auto act = [&](const auto& a) {
    using T = std::decay_t<decltype(a)>;
    if constexpr (std::is_same_v<T, action::OpenStream>) {
      process.stream = a.stream;
      Send(worker, process.history, Report{a.stream, a.first});
    } else if constexpr (std::is_same_v<T, action::CloseStream>) {
      Send(worker, process.history, Hangup{process.stream});
      process.stream = 0;
    } else if constexpr (std::is_same_v<T, action::SendState>) {
      Send(worker, process.history, Report{process.stream, a.state});
    } else if constexpr (std::is_same_v<T, action::Fetch>) {
      auto run = std::make_shared<v1::EngineRun>();
      *run->mutable_task() = a.spec;
      next.push_back(event::Fetched{a.task, a.grant, std::move(run)});
    } else if constexpr (std::is_same_v<T, action::StartEngine>) {
      event::EngineBecameReady ready;
      ready.ready.set_device("cpu");
      ready.ready.add_evaluations("aligned@1");
      ready.ready.add_methods("rtn");
      next.push_back(std::move(ready));
    } else if constexpr (std::is_same_v<T, action::Run>) {
      process.running = a.run;
      event::EngineProgressed progressed;
      progressed.progress.set_task_id(a.run->task().task_id());
      progressed.progress.mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
      next.push_back(std::move(progressed));
    } else if constexpr (std::is_same_v<T, action::CancelRun>) {
      process.running.reset();
      event::EngineRefused refused;
      refused.failed.set_task_id(static_cast<uint64_t>(a.task.value()));
      next.push_back(std::move(refused));
    } else if constexpr (std::is_same_v<T, action::KillEngine>) {
      process.running.reset();
      next.push_back(event::EngineExited{absl::UnavailableError("killed")});
    } else if constexpr (std::is_same_v<T, action::SpoolResult>) {
      process.spool[a.lease] = a.envelope;
      Send(worker, process.history, a.envelope);
      next.push_back(event::ResultSpooled{a.lease});
    } else if constexpr (std::is_same_v<T, action::Release>) {
      process.releases[KeyOf(a.request)] = a.request;
      Send(worker, process.history, a.request);
    } else if constexpr (std::is_same_v<T, action::TakeNewIdentity>) {
      process.uuid = Bytes16(absl::StrCat("new ", process.history));
      next.push_back(event::IdentityTaken{process.uuid});
    } else if constexpr (std::is_same_v<T, action::Exit>) {
      problems_.push_back(
          absl::StrCat("w", worker + 1, " gave up: ", a.status.ToString()));
    }
  };
  std::visit(act, action);
}

void SmallWorld::Deliver(size_t index, bool keep) {
  const MessagePtr message = wires_[index];
  if (!keep) {
    wires_.erase(wires_.begin() + static_cast<ptrdiff_t>(index));
  }
  const int worker = message->worker;
  if (const auto* desired = std::get_if<Desired>(&message->body)) {
    Feed(worker, event::StateReceived{desired->stream, desired->state},
         message->id);
  } else if (const auto* closed = std::get_if<Closed>(&message->body)) {
    Feed(worker, event::StreamClosed{closed->stream, closed->why}, message->id);
  } else if (const auto* answer = std::get_if<CommitAnswer>(&message->body)) {
    TakeAnswer(worker, *answer, message->id);
  } else if (const auto* ack = std::get_if<ReleaseAnswer>(&message->body)) {
    Change(worker).releases.erase(ack->lease);
    Feed(worker, event::ReleaseAnswered{ack->lease}, message->id);
  } else {
    Meet(*message);
  }
}

void SmallWorld::Lose(size_t index) {
  wires_.erase(wires_.begin() + static_cast<ptrdiff_t>(index));
}

void SmallWorld::TakeAnswer(int worker, const CommitAnswer& answer,
                            uint64_t id) {
  const Task& task = coordinator_->state.task(answer.lease.task);
  const v1::CommitOutcome outcome = answer.one.outcome();
  const bool own = outcome == v1::COMMIT_OUTCOME_OK ||
                   outcome == v1::COMMIT_OUTCOME_ALREADY_COMMITTED;
  if (task.state != v1::TASK_STATE_DONE ||
      (own && task.history->result_epoch != answer.lease.epoch) ||
      (!own && outcome != v1::COMMIT_OUTCOME_SUPERSEDED)) {
    problems_.push_back(absl::StrCat("the result of task ", task.id.value(),
                                     " was answered with ",
                                     v1::CommitOutcome_Name(outcome)));
  }
  Change(worker).spool.erase(answer.lease);
  Feed(worker,
       event::ResultAnswered{answer.lease, outcome, answer.one.failure()}, id);
}

void SmallWorld::FinishRun(int worker) {
  WorkerProcess& process = Change(worker);
  const v1::TaskSpec task = process.running->task();
  process.running.reset();
  event::EngineFinished finished;
  finished.done.set_task_id(task.task_id());
  *finished.done.mutable_result() = testing::HonestResult(task);
  Feed(worker, std::move(finished), 2);
}

bool SmallWorld::OnItsWay(const LeaseKey& lease) const {
  return std::ranges::any_of(wires_, [&lease](const MessagePtr& message) {
    const auto* result = std::get_if<v1::ResultEnvelope>(&message->body);
    const auto* release = std::get_if<v1::ReleaseTaskRequest>(&message->body);
    const auto* answer = std::get_if<CommitAnswer>(&message->body);
    const auto* ack = std::get_if<ReleaseAnswer>(&message->body);
    return (result != nullptr && KeyOf(*result) == lease) ||
           (release != nullptr && KeyOf(*release) == lease) ||
           (answer != nullptr && answer->lease == lease) ||
           (ack != nullptr && ack->lease == lease);
  });
}

// Calls without an answer, once their deadline has passed.
void SmallWorld::SendAgain() {
  sent_ = static_cast<uint64_t>(absl::ToInt64Microseconds(now_.since_boot()));
  for (int i = 0; i < kWorkers; ++i) {
    const WorkerProcess& process = *workers_[i];
    for (const auto& [lease, envelope] : process.spool) {
      if (!OnItsWay(lease)) {
        Send(i, process.history, envelope);
      }
    }
    for (const auto& [lease, request] : process.releases) {
      if (!OnItsWay(lease)) {
        Send(i, process.history, request);
      }
    }
  }
}

void SmallWorld::PassTime() {
  const State& state = coordinator_->state;
  SteadyTime next = SteadyTime::InfiniteFuture();
  for (const auto& worker : workers_) {
    next = std::min(next, worker->core->NextTick());
  }
  for (const auto& [id, task] : state.tasks()) {
    next = std::min(next, TimeoutOf(state, task, settings_));
  }
  if (next == SteadyTime::InfiniteFuture()) {
    return;
  }
  now_ = std::max(now_, next);
  for (int i = 0; i < kWorkers; ++i) {
    if (workers_[i]->core->NextTick() <= now_) {
      Feed(i, event::Tick{}, 3);
    }
  }
  Coordinator& c = Change();
  sent_ = 0;
  c.history =
      absl::HashOf(c.history, 3, absl::ToInt64Microseconds(now_.since_boot()));
  TickCoordinator(c);
  GrantAndPush(c);
  SendAgain();
}

void SmallWorld::PassSilence() {
  now_ = now_ + settings_.lease_ttl + absl::Seconds(1);
  Coordinator& c = Change();
  sent_ = 0;
  c.history =
      absl::HashOf(c.history, 4, absl::ToInt64Microseconds(now_.since_boot()));
  TickCoordinator(c);
  GrantAndPush(c);
  for (int i = 0; i < kWorkers; ++i) {
    Feed(i, event::Tick{}, 4);
  }
  SendAgain();
}

void SmallWorld::RestartWorker(int worker) {
  std::erase_if(wires_, [worker](const MessagePtr& message) {
    return message->worker == worker && message->body.index() >= 4;
  });
  Boot(worker);
  SendAgain();
}

void SmallWorld::RestartCoordinator() {
  Coordinator& c = Change();
  sent_ = 0;
  c.history = absl::HashOf(c.history, 5);
  c.links.clear();
  c.state = State(testing::SnapshotOf(c.state));
  Apply(c, {CoordinatorStarted{
               .epoch = c.state.coordinator_epoch() + 1,
               .now = now_,
               .failover_deadline = now_ + settings_.failover_ttl}});
  for (int i = 0; i < kWorkers; ++i) {
    if (workers_[i]->stream != 0) {
      Feed(i,
           event::StreamClosed{workers_[i]->stream,
                               absl::UnavailableError("connection reset")},
           5);
    }
  }
}

bool SmallWorld::settled() const {
  for (const auto& [id, task] : coordinator_->state.tasks()) {
    if (task.state != v1::TASK_STATE_DONE) {
      return false;
    }
  }
  return std::ranges::all_of(workers_,
                             [](const auto& w) { return w->spool.empty(); });
}

}  // namespace qsweep::sim
