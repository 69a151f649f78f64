#ifndef QSWEEP_WORKER_AGENT_AGENT_CORE_H_
#define QSWEEP_WORKER_AGENT_AGENT_CORE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/random.h"
#include "worker/agent/agent_events.h"

namespace qsweep {

// What to do when no heartbeat was acknowledged for a whole lease.
enum class OnServerLost {
  kFinish,  // compute on, keep the result in the spool
  kStop,    // end the engine: its device is wanted elsewhere
};

// How the worker talks to the coordinator.
enum class Control {
  kStream,  // polls for one session when streams do not get through
  kPoll,
};

struct AgentSettings {
  v1::Hello hello;  // identity; devices and methods come from the engine
  Control control = Control::kStream;
  OnServerLost on_server_lost = OnServerLost::kFinish;
  absl::Duration lifetime = absl::InfiniteDuration();  // from the start
  absl::Duration cancel_grace = absl::Seconds(10);  // then the engine is killed
  // What a task that runs when the worker is asked to leave has to end in.
  absl::Duration drain_deadline = absl::Seconds(30);
  absl::Duration goodbye_limit = absl::Milliseconds(900);
  uint64_t seed = 0;  // of the reconnect jitter
};

// START HERE. Every decision of a worker: which leases it holds, what the
// engine does next, what the coordinator is told. Events in, actions out; no
// I/O, lock, clock or log, so that tables of events test it and a simulation
// can run it.
//   AgentCore core(settings);
//   for (const AgentAction& action : core.Step(event, now)) { ... do it ... }
//   ... and Step(event::Tick{}, now) at core.NextTick() at the latest.
//
// The stream is level-triggered: each DesiredState carries every lease the
// worker should hold. A desired lease that is not held is fetched and run; a
// held one that is not desired is cancelled; a finished one is listed as COMMIT
// until its result was acknowledged. One task runs, one is fetched ahead. What
// comes while the worker drains or its spool is full is given back.
// Single-thread.
class AgentCore {
 public:
  explicit AgentCore(const AgentSettings& settings);

  // now must not go back between calls.
  std::vector<AgentAction> Step(const AgentEvent& event, SteadyTime now);

  // When a Tick is needed if nothing else happens.
  SteadyTime NextTick() const;

  // The leases held, for tests and the log. Cancelled ones are not among them.
  std::vector<LeaseKey> held() const;

 private:
  enum class Stage {
    kFetching,   // artifacts and model
    kWaiting,    // fetched; the engine is busy
    kRunning,    // in the engine
    kSpooling,   // on its way to the disk
    kSpooled,    // on disk, not yet acknowledged
    kReleasing,  // given back, not yet acknowledged
  };
  struct Held {
    Epoch epoch;
    Stage stage = Stage::kFetching;
    uint64_t grant = 0;       // counts grants to this process, in order
    std::string worker_uuid;  // of the grant
    std::string session_id;   // of the grant
    v1::TaskSpec spec;
    std::shared_ptr<const v1::EngineRun> run;
    v1::TaskProgress progress;
    SteadyTime run_at;         // when the engine got it
    SteadyTime progressed_at;  // when the engine last showed progress
    // First beat of this session that listed it; 0: none yet. And whether a
    // message of this session carried it. Without either, its absence from a
    // DesiredState says nothing.
    uint64_t listed_in_beat = 0;
    bool desired_in_session = false;
    bool cancelled = false;  // kRunning only: waits for the engine to stop
    bool stalled = false;    // kRunning only: killed for lack of progress
  };
  using HeldTasks = std::map<TaskId, Held>;

  enum class Engine { kDown, kStarting, kIdle, kBusy, kDying };

  void On(const event::Started& started);
  void On(const event::StateReceived& received);
  void On(const event::StreamClosed& closed);
  void On(const event::EngineBecameReady& became);
  void On(const event::EngineProgressed& progressed);
  void On(const event::EngineFinished& finished);
  void On(const event::EngineRefused& refused);
  void On(const event::EngineExited& exited);
  void On(const event::Fetched& fetched);
  void On(const event::FetchFailed& failed);
  void On(const event::ResultSpooled& spooled);
  void On(const event::SpoolFailed& failed);
  void On(const event::ResultAnswered& answered);
  void On(const event::ReleaseAnswered& answered);
  void On(const event::SpoolRoomChanged& changed);
  void On(const event::IdentityTaken& taken);
  void On(const event::ShutdownRequested& requested);
  void On(const event::Tick&) {}

  // Session.
  void OpenStream();
  void DropStream(SteadyTime retry_at);
  void CountBrokenStream(bool connected);
  absl::Duration ReconnectPause();
  void LeaveIdentity();
  // False: of a version that this worker does not speak; it leaves.
  bool TakeWelcome(const v1::Welcome& welcome);
  void TakeBeatAck(uint64_t beat_ack);
  void SendBeatIfDue();
  v1::WorkerState MakeState();
  absl::Duration TaskInterval() const;  // least time between beats about tasks
  absl::Duration ProgressInterval() const;  // the same, about progress
  absl::Duration SilenceLimit() const;      // no acknowledgement: reconnect

  // Leases.
  void TakeLeases(const v1::DesiredState& state);
  void TakeLease(const v1::DesiredLease& lease);
  // Whether a lease that comes now is given back.
  bool RefusesWork() const { return draining_ || !spool_full_.ok(); }
  void ReleaseWaiting(v1::ReleaseReason reason);
  void Withdraw(HeldTasks::iterator it);
  void Release(Held& held, TaskId task, v1::ReleaseReason reason,
               const absl::Status& why);
  void ReleaseWithFailure(Held& held, TaskId task, v1::ReleaseReason reason,
                          const v1::Failure& failure);
  HeldTasks::iterator Forget(HeldTasks::iterator it);
  bool Ended(const LeaseKey& lease) const;
  bool LeaseRunsOut() const { return now_ >= lease_until_; }
  Held* Find(const LeaseKey& lease, Stage stage);

  // Engine.
  HeldTasks::iterator Running();
  void StartNextRun();
  // When the run of `held` counts as stalled.
  SteadyTime StalledAt(const Held& held) const;
  void Kill();
  void EndRun(HeldTasks::iterator it);
  // The engine has loaded the model of this task.
  void NoticeModel(const v1::TaskSpec& spec);

  // Time.
  void NoticeAbsence(SteadyTime now);
  void CheckTimers();
  void CheckEngineTimers();
  void CheckLeaseCount();
  // Takes no new task; leaves when nothing is held, at `until` at the latest.
  void BeginDrain(const std::string& reason, SteadyTime until,
                  v1::ReleaseReason release);
  SteadyTime LifetimeDrainAt() const;
  // status: what Exit will say.
  void BeginShutdown(const std::string& reason, const absl::Status& status);
  void ContinueShutdown();

  template <typename Action>
  void Do(Action action) {
    actions_.emplace_back(std::move(action));
  }
  void Note(std::string text) { Do(action::Note{std::move(text)}); }

  const AgentSettings settings_;
  v1::Hello hello_;  // without what the engine says
  Random random_;
  SteadyTime now_;
  std::vector<AgentAction> actions_;  // of the step that runs

  // Session.
  uint64_t stream_ = 0;        // number of the newest stream
  bool stream_open_ = false;   // opened, not closed
  bool polling_ = false;       // the newest stream is one of polls
  int broken_streams_ = 0;     // in a row, without a word although connected
  bool attached_ = false;      // its Welcome has come
  bool was_attached_ = false;  // in some session
  bool told_of_certificate_ = false;  // that it is another's, or has expired
  std::string session_id_;
  uint64_t beat_seq_ = 0;
  uint64_t state_seq_ = 0;  // newest DesiredState of this session
  struct Beat {
    uint64_t seq;
    SteadyTime sent_at;
  };
  std::deque<Beat> beats_;  // not yet acknowledged
  SteadyTime last_beat_at_;
  SteadyTime heard_at_;       // last acknowledgement, or when the stream opened
  bool dirty_ = false;        // a beat should leave now
  bool tasks_dirty_ = false;  // soon: a lease was taken, ran or ended
  bool progress_dirty_ = false;  // later
  SteadyTime unattached_since_;
  SteadyTime connect_at_ = SteadyTime::InfiniteFuture();
  SteadyTime going_away_until_;  // no attempt before
  absl::Duration heartbeat_ = absl::Seconds(10);
  absl::Duration lease_ttl_ = absl::Seconds(60);
  absl::Duration progress_deadline_ = absl::Seconds(120);
  absl::Duration backoff_max_ = absl::Seconds(20);

  // Leases.
  HeldTasks held_;
  uint64_t grants_ = 0;
  SteadyTime
      lease_until_;  // own count, from the send time of acknowledged beats
  // Newest epoch that ended here since the stream was opened.
  std::map<TaskId, Epoch> ended_;
  std::deque<TaskId> ended_order_;  // bounds ended_
  absl::Status spool_full_;

  // Engine.
  Engine engine_ = Engine::kDown;
  std::optional<v1::EngineReady> ready_;  // of the newest start
  int start_failures_ = 0;                // in a row
  SteadyTime start_at_ = SteadyTime::InfiniteFuture();
  SteadyTime kill_at_ = SteadyTime::InfiniteFuture();
  std::string resident_model_;  // digest
  // Digests of models that ran here and were found at each fetch since, the
  // newest first; bounded, since each state has them.
  std::vector<std::string> disk_models_;

  // End.
  SteadyTime lifetime_end_ = SteadyTime::InfiniteFuture();
  bool draining_ = false;
  bool drained_by_server_ = false;  // alone: it may take that back
  bool asked_to_leave_ = false;
  std::string drain_reason_;
  SteadyTime drain_until_ = SteadyTime::InfiniteFuture();
  std::string leaving_;  // why; empty: not leaving
  absl::Status exit_status_;
  SteadyTime leave_by_;
  uint64_t goodbye_beat_ = 0;
  bool exited_ = false;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_AGENT_CORE_H_
