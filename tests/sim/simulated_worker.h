#ifndef QSWEEP_TESTS_SIM_SIMULATED_WORKER_H_
#define QSWEEP_TESTS_SIM_SIMULATED_WORKER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "tests/sim/coordinator_process.h"
#include "worker/agent/agent_core.h"

namespace qsweep::sim {

// The real AgentCore with an engine, a spool and a network that are simulated.
// Its machine outlives its process: the spool, worker_uuid and boot_seq stay
// when the process dies. Single-thread.
class SimulatedWorker {
 public:
  struct Options {
    Node node = 0;
    std::string name;
    std::vector<std::string> evaluations = {"aligned@1", "hf-text@1"};
    std::vector<std::string> methods = {"rtn", "gptq"};
    uint64_t memory_bytes = uint64_t{1} << 30;
    std::string device;          // "cuda:0 Tesla T4"; empty: a CPU
    bool wrong_results = false;  // now and then, as a bad GPU
    bool poison = true;          // some tasks break or hang it
  };

  SimulatedWorker(const Options& options, Schedule& schedule, Network& network,
                  Random& random, Counts& counts, Trace& trace,
                  Oracles& oracles, CoordinatorProcess& coordinator);

  void Start();
  bool up() const { return core_ != nullptr; }
  // As kill -9: the process is gone; the kernel closes its connections unless
  // the machine is gone too.
  void Kill(bool machine_lost);
  // SIGSTOP and SIGCONT: what happens meanwhile is met afterwards.
  void Freeze(absl::Duration duration);
  // SIGTERM: says goodbye.
  void Shutdown();
  // Tokens to show, one after the other: the first until it is revoked.
  void set_tokens(std::vector<AccessTokenText> tokens) {
    tokens_ = std::move(tokens);
  }
  // The token it shows, if it has another for the time after; nothing: no.
  std::optional<TokenId> RevocableToken() const;
  // Starts again after it ended, unless false.
  void set_keeps_running(bool keeps_running) { keeps_running_ = keeps_running; }
  bool keeps_running() const { return keeps_running_; }
  // Another machine with the same worker_uuid and boot_seq, as from a cloned
  // image.
  void CloneFrom(const SimulatedWorker& other);
  // Tasks that break it or hang, wrong results, slow starts.
  void set_faulty(bool faulty) { faulty_ = faulty; }

  // A result for a lease that was never granted: what a liar would send.
  void SendForgery();
  // All results it made were answered.
  const std::string& name() const { return options_.name; }
  bool spool_empty() const { return spool_.empty(); }

 private:
  struct Run {
    std::shared_ptr<const v1::EngineRun> run;
    uint64_t number = 0;
  };

  void Feed(AgentEvent event);
  void StepCore(const AgentEvent& event);
  void ScheduleTick();
  // Runs later in this process, if it is still there.
  void Later(absl::Duration delay, std::function<void()> run);
  // True: the process is frozen; `run` is called when it goes on.
  bool WaitsForThaw(const std::function<void()>& run);
  absl::Duration UpTo(absl::Duration most);
  bool Chance(double probability) { return random_.Uniform() < probability; }

  void Do(const action::OpenStream& open);
  void Do(const action::CloseStream& close);
  void Do(const action::SendState& send);
  void Do(const action::Fetch& fetch);
  void Do(const action::StartEngine& start);
  void Do(const action::Run& run);
  void Do(const action::CancelRun& cancel);
  void Do(const action::KillEngine& kill);
  void Do(const action::SpoolResult& spool);
  void Do(const action::Release& release);
  void Do(const action::KeepModel& keep);
  void Do(const action::TakeNewIdentity& take);
  void Do(const action::Exit& exit);
  void Do(const action::Note& note);

  enum class Fate { kFinishes, kRefused, kCrashes, kHangs, kKillsMachine };
  Fate FateOf(const v1::TaskSpec& task);
  void RunEngine(const v1::TaskSpec& task, uint64_t number);
  void Progress(uint64_t task, v1::TaskPhase phase);
  void Finish(const v1::TaskSpec& task);
  // Some documents cannot be scored; calibrated configurations have codes.
  void Embellish(const v1::TaskSpec& task, v1::TaskResult& result);
  void SendPoll(const v1::WorkerState& state);
  void SendResult(const LeaseKey& lease);
  void TakeAnswer(const LeaseKey& lease,
                  const absl::StatusOr<v1::CommitResultResponse>& response);
  void SendRelease(const v1::ReleaseTaskRequest& request);
  void End(bool say_so);
  // Another machine takes its place, as an operator would see to.
  void Replace();
  std::optional<AccessTokenText> token() const {
    return tokens_.empty() ? std::nullopt : std::optional(tokens_.front());
  }

  const Options options_;
  Schedule& schedule_;
  Network& network_;
  Random& random_;
  Counts& counts_;
  Trace& trace_;
  Oracles& oracles_;
  CoordinatorProcess& coordinator_;

  // The machine's.
  WorkerUuid uuid_;
  uint64_t boot_seq_ = 0;
  std::map<LeaseKey, v1::ResultEnvelope> spool_;
  std::vector<std::string> models_;      // digests, on its disk
  std::vector<AccessTokenText> tokens_;  // empty: a local caller
  bool keeps_running_ = true;
  bool faulty_ = true;

  // The process's.
  std::unique_ptr<AgentCore> core_;
  uint64_t life_ = 0;
  SteadyTime frozen_until_;
  std::deque<AgentEvent> inbox_;  // while frozen
  SteadyTime tick_at_ = SteadyTime::InfiniteFuture();
  std::shared_ptr<Stream> stream_;
  bool stream_polls_ = false;
  Run run_;
  uint64_t runs_ = 0;
  std::map<LeaseKey, v1::ReleaseTaskRequest> releases_;
  std::string resident_;  // model digest
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_SIMULATED_WORKER_H_
