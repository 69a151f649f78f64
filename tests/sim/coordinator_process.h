#ifndef QSWEEP_TESTS_SIM_COORDINATOR_PROCESS_H_
#define QSWEEP_TESTS_SIM_COORDINATOR_PROCESS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "common/base/random.h"
#include "common/base/token_text.h"
#include "coordinator/loop.h"
#include "coordinator/token_table.h"
#include "tests/sim/memory_vfs.h"
#include "tests/sim/network.h"
#include "tests/sim/oracles.h"
#include "tests/support/faulty_store.h"

namespace qsweep::sim {

// Where in its work a coordinator dies.
enum class DeathPoint {
  kBetweenSteps,
  kBeforeCommit,  // decided and applied, nothing written
  kInCommit,      // in the midst of a write or sync
  kAfterCommit,   // stored, nobody told
  kAmidReplies,   // some told
  kAtStart,       // in recovery or checkpoint
};

// A worker's stream, as the coordinator's machine sees it. The closures run in
// the worker's process.
struct Stream {
  Node worker = 0;
  uint64_t number = 0;  // of all streams of the simulation
  WorkerUuid uuid;
  std::optional<AccessTokenText> token;  // that it shows; nothing: it is local
  Caller caller;                         // of a stream: who opened it
  std::function<void(v1::DesiredState)> on_state;
  std::function<void(absl::Status)> on_closed;
};

// The real loop, core and SQLite on a disk that can lose power, as a process
// that is started, dies and is started again. What it says leaves through the
// network; what comes in is posted to the loop, which steps soon after, as its
// thread would. Single-thread.
class CoordinatorProcess {
 public:
  CoordinatorProcess(Schedule& schedule, Network& network, Random& random,
                     Counts& counts, Trace& trace, Oracles& oracles,
                     const Settings& settings);
  ~CoordinatorProcess();

  void Start();
  // Stops as after SIGTERM, and comes back.
  void Drain();
  // Dies at the next such point; then its machine loses power, if told so.
  void PlanDeath(DeathPoint point, bool power_cut);
  // Before those who wait for its answers are gone.
  void Destroy();
  bool up() const { return loop_ != nullptr; }
  bool disk_full() const { return disk_full_; }
  // A batch with a job of this name is one the database cannot take.
  static constexpr char kUnstorable[] = "unstorable";

  MemoryVfs& disk() { return disk_; }
  // Only while up.
  testing::FaultyStore& store();
  const State& state() const { return loop_->state(); }
  // How long each sync takes.
  void set_sync_time(absl::Duration time) { sync_time_ = time; }

  // Doors: what a message does when it arrives. A stream that this process
  // does not know is told so.
  void Hello(std::shared_ptr<Stream> stream, v1::WorkerState state);
  void Beat(const std::shared_ptr<Stream>& stream, v1::WorkerState state);
  void Hangup(const std::shared_ptr<Stream>& stream);
  // A message by long poll: the answer is the stream's next state.
  void Poll(const std::shared_ptr<Stream>& stream, v1::WorkerState state);
  // `from` hears the answer, unless it is lost.
  template <typename Response, typename Request>
  void Call(Node from, Request request, Reply<Response> answer) {
    CallWith(std::nullopt, from, std::move(request), std::move(answer));
  }
  // The same with a token. Without one the caller is local.
  template <typename Response, typename Request>
  void CallWith(const std::optional<AccessTokenText>& token, Node from,
                Request request, Reply<Response> answer) {
    if (loop_ == nullptr) {
      return Refuse<Response>(from, answer,
                              absl::UnavailableError("connection refused"));
    }
    const absl::StatusOr<Caller> caller = Authenticate(token);
    if (!caller.ok()) {
      counts_.checks.Add("call with a revoked token refused");
      return Refuse<Response>(from, answer, caller.status());
    }
    Observe(request);
    auto reply = MakeReply<Response>(from, std::move(answer));
    PostTo(*loop_, *caller, std::move(request), std::move(reply));
    WakeSoon();
  }
  void PutArtifact(Node from, const Digest& digest, std::string bytes,
                   Reply<v1::PutArtifactResponse> answer);
  void Watch(v1::WatchJobRequest request, std::shared_ptr<WatchSink> sink);
  // A sink that had no room has some.
  void TellOfRoom();
  // For sinks: false: the process is dead and says nothing any more.
  bool Speaks();
  // What a message waits for on top of the network: the syncs of this step.
  absl::Duration SyncDelay() const;
  uint64_t life() const { return life_; }

 private:
  class ObservedStore;
  class Link;

  template <typename Response>
  void Refuse(Node from, Reply<Response> answer, const absl::Status& why) {
    network_.Send(kCoordinator, from,
                  [answer = std::move(answer), why] { answer(why); });
  }
  // What the service does with each call before the loop hears of it.
  absl::StatusOr<Caller> Authenticate(
      const std::optional<AccessTokenText>& token) const;
  template <typename Response>
  Reply<Response> MakeReply(Node from, Reply<Response> answer) {
    return [this, from, life = life_,
            answer = std::move(answer)](absl::StatusOr<Response> response) {
      if (life != life_ || !Speaks()) {
        return;
      }
      network_.Send(
          kCoordinator, from,
          [answer, response = std::move(response)] { answer(response); },
          SyncDelay());
    };
  }
  template <typename Request, typename R>
  static void PostTo(Loop& loop, const Caller& caller, Request request,
                     R reply) {
    if constexpr (requires { loop.Post(caller, request, reply); }) {
      loop.Post(caller, std::move(request), std::move(reply));
    } else {
      loop.Post(std::move(request), std::move(reply));
    }
  }
  template <typename Request>
  void Observe(const Request& request) {
    if constexpr (std::is_same_v<Request, v1::ReleaseTaskRequest>) {
      oracles_.OnRelease(request);
    }
  }

  // Who opens the stream or polls on it; an error is told.
  absl::StatusOr<Caller> CallerOf(const std::shared_ptr<Stream>& stream);
  absl::Status OpenLoop();
  void WakeSoon();
  void WakeAt(SteadyTime time);
  void Step();
  void CheckReload();
  void DieOnDisk();
  void Die();
  absl::Status BeforeCommit(std::span<const Mutation> batch);
  void AfterCommit(std::span<const Mutation> batch, const absl::Status& status);
  void TraceCommit(std::span<const Mutation> batch);

  Schedule& schedule_;
  Network& network_;
  Random& random_;
  Counts& counts_;
  Trace& trace_;
  Oracles& oracles_;
  const Settings settings_;

  MemoryVfs disk_;
  std::unique_ptr<Loop> loop_;
  ObservedStore* store_ = nullptr;                   // the loop's
  std::map<uint64_t, std::shared_ptr<Link>> links_;  // by stream
  uint64_t life_ = 0;
  SteadyTime wake_at_ = SteadyTime::InfiniteFuture();
  SteadyTime busy_until_;
  absl::Duration sync_time_ = absl::Milliseconds(1);
  int64_t syncs_before_ = 0;  // this step
  int64_t commits_ = 0;
  int64_t checked_commits_ = 0;
  int64_t reloaded_commits_ = 0;
  bool disk_full_ = false;

  std::optional<DeathPoint> death_;
  bool death_at_start_ = false;
  bool power_cut_ = false;
  bool check_pages_ = true;  // at the next start: power was cut
  int replies_left_ = 0;
  bool doomed_ = false;  // dead, but the call stack does not know yet
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_COORDINATOR_PROCESS_H_
