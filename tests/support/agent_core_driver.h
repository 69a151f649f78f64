#ifndef QSWEEP_TESTS_SUPPORT_AGENT_CORE_DRIVER_H_
#define QSWEEP_TESTS_SUPPORT_AGENT_CORE_DRIVER_H_

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "worker/agent/agent_core.h"

namespace qsweep::testing {

// Drives a core as the shell would, and plays coordinator, engine and disk.
class AgentCoreDriver {
 public:
  explicit AgentCoreDriver(AgentSettings settings = {})
      : core_(Named(settings)) {}

  void Step(AgentEvent e) {
    for (AgentAction& action : core_.Step(e, now_)) {
      if (!std::holds_alternative<action::Note>(action)) {
        actions_.push_back(std::move(action));
      }
    }
  }
  // Time passes and nobody runs, as between SIGSTOP and SIGCONT.
  void Stop(absl::Duration duration) { now_ = now_ + duration; }
  // Lets time pass, with the ticks the core asks for.
  void Advance(absl::Duration duration) {
    const SteadyTime end = now_ + duration;
    int ticks = 0;
    while (core_.NextTick() <= end) {
      ASSERT_LT(++ticks, 10'000) << "the core asks for ticks in the past";
      now_ = std::max(now_, core_.NextTick());
      Step(event::Tick{});
    }
    now_ = end;
  }

  // All actions of this kind since the last Take of any kind of it.
  template <typename Action>
  std::vector<Action> Take() {
    std::vector<Action> taken;
    std::vector<AgentAction> rest;
    for (AgentAction& action : actions_) {
      if (auto* a = std::get_if<Action>(&action)) {
        taken.push_back(std::move(*a));
      } else {
        rest.push_back(std::move(action));
      }
    }
    actions_ = std::move(rest);
    return taken;
  }
  // The newest state sent, on an open stream; waits for what is said soon.
  v1::WorkerState LastState() {
    constexpr absl::Duration kSoon = absl::Milliseconds(100);
    if (core_.NextTick() <= now_ + kSoon) {
      Advance(kSoon);
    }
    for (auto& sent : Take<action::SendState>()) {
      last_state_ = sent.state;
    }
    return last_state_;
  }

  void StartEngine() {
    v1::EngineReady ready;
    ready.set_fingerprint("fake 1");
    ready.set_device("cpu");
    ready.add_evaluations("aligned@1");
    Step(event::EngineBecameReady{ready});
  }
  struct Lease {
    int task;
    int epoch;
  };
  // The Welcome comes with the leases, which were listed before.
  void Attach(const std::vector<Lease>& leases = {}) {
    for (auto& open : Take<action::OpenStream>()) {
      stream_ = open.stream;
      last_state_ = open.first;
    }
    state_seq_ = 0;
    v1::DesiredState state = Desired(leases, /*with_spec=*/false);
    state.mutable_welcome()->set_session_id(absl::StrCat("session ", stream_));
    state.mutable_welcome()->set_heartbeat_ms(10'000);
    state.mutable_welcome()->set_lease_ttl_ms(60'000);
    Step(event::StateReceived{stream_, state});
  }
  void StartAndAttach() {
    Step(event::Started{});
    StartEngine();
    Attach();
  }

  // A message that has seen everything sent so far. withheld_spec: without
  // specs, as for tasks that were listed.
  v1::DesiredState Desired(const std::vector<Lease>& leases,
                           bool with_spec = true) {
    v1::DesiredState state;
    state.set_state_seq(++state_seq_);
    state.set_beat_ack(LastState().beat_seq());
    for (const Lease& lease : leases) {
      v1::DesiredLease& out = *state.add_leases();
      out.set_task_id(static_cast<uint64_t>(lease.task));
      out.set_epoch(static_cast<uint64_t>(lease.epoch));
      out.set_ttl_ms(60'000);
      if (with_spec) {
        out.mutable_spec()->set_task_id(static_cast<uint64_t>(lease.task));
        out.mutable_spec()->set_content_key(absl::StrCat("key ", lease.task));
        out.mutable_spec()->set_model_digest("model");
      }
    }
    return state;
  }
  void Desire(const std::vector<Lease>& leases, bool with_spec = true) {
    Step(event::StateReceived{stream_, Desired(leases, with_spec)});
  }
  void FetchAll() {
    for (const action::Fetch& fetch : Take<action::Fetch>()) {
      auto run = std::make_shared<v1::EngineRun>();
      *run->mutable_task() = fetch.spec;
      Step(event::Fetched{fetch.task, fetch.grant, run});
    }
  }
  void Finish(int task) {
    v1::EngineDone done;
    done.set_task_id(static_cast<uint64_t>(task));
    done.mutable_result()->add_rows()->set_nll_sum(1.5);
    Step(event::EngineFinished{done});
  }
  void Progress(int task, v1::TaskPhase phase = v1::TASK_PHASE_RUN) {
    v1::EngineProgress progress;
    progress.set_task_id(static_cast<uint64_t>(task));
    progress.mutable_progress()->set_phase(phase);
    Step(event::EngineProgressed{progress});
  }
  void Partial(int task, const std::string& language) {
    v1::EngineProgress progress;
    progress.set_task_id(static_cast<uint64_t>(task));
    progress.mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
    progress.mutable_progress()->add_partial()->set_language(language);
    Step(event::EngineProgressed{progress});
  }
  void Die(absl::Status why = absl::UnavailableError("killed by signal 9")) {
    Step(event::EngineExited{std::move(why)});
  }
  // "task:epoch phase" of everything the newest state lists.
  std::vector<std::string> Listed() {
    std::vector<std::string> listed;
    const v1::WorkerState state = LastState();
    for (const v1::HeldTask& held : state.held()) {
      listed.push_back(
          absl::StrCat(held.task_id(), ":", held.epoch(), " ",
                       v1::TaskPhase_Name(held.progress().phase()).substr(11)));
    }
    return listed;
  }
  std::vector<uint64_t> Runs() {
    std::vector<uint64_t> tasks;
    for (const action::Run& run : Take<action::Run>()) {
      tasks.push_back(run.run->task().task_id());
    }
    return tasks;
  }

  uint64_t stream() const { return stream_; }
  void set_stream(uint64_t stream) { stream_ = stream; }
  AgentCore& core() { return core_; }

 private:
  static AgentSettings Named(AgentSettings settings) {
    settings.hello.set_worker_uuid("worker uuid 16 b");
    return settings;
  }

  AgentCore core_;
  SteadyTime now_ = SteadyTime::FromSinceBoot(absl::Hours(5));
  std::vector<AgentAction> actions_;
  v1::WorkerState last_state_;
  uint64_t stream_ = 0;
  uint64_t state_seq_ = 0;
};

inline LeaseKey Key(int task, int epoch) {
  return {TaskId(task), Epoch(epoch)};
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_AGENT_CORE_DRIVER_H_
