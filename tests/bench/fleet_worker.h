#ifndef QSWEEP_TESTS_BENCH_FLEET_WORKER_H_
#define QSWEEP_TESTS_BENCH_FLEET_WORKER_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/rpc/worker_session.h"
#include "tests/bench/fleet.h"
#include "worker/agent/agent_core.h"

namespace qsweep::bench {

// The shell around one AgentCore. All of it belongs to the fleet's thread, but
// for gRPC's callbacks, which only post.
class FleetWorker {
 public:
  FleetWorker(int index, const Endpoint& endpoint, Fleet& fleet);

  void Start();
  void Feed(AgentEvent event);
  void Freeze() { frozen_ = true; }
  // The fleet ends: no call starts any more, those that run are cancelled.
  void End();

 private:
  struct Call;  // a CommitResult that runs

  void Do(action::OpenStream& open);
  void Do(action::CloseStream&) { stream_.reset(); }
  void Do(action::SendState& send);
  void Do(action::Fetch& fetch);
  void Do(action::StartEngine&);
  void Do(action::Run& run);
  void Do(action::CancelRun& cancel);
  void Do(action::KillEngine&);
  void Do(action::SpoolResult& spool);
  void Do(action::Release& release);
  void Do(action::KeepModel&) {}
  void Do(action::TakeNewIdentity&) {}
  void Do(action::Exit&);
  void Do(action::Note&) {}

  void TakeState(uint64_t stream, v1::DesiredState state, SteadyTime at);
  void FinishRun(uint64_t run, const v1::TaskSpec& spec);
  void SendResults();
  void TakeAnswer(const std::shared_ptr<Call>& call,
                  const absl::Status& status);
  void SendReleases();
  void FlushState();
  void ScheduleTick();
  SteadyTime now() const;

  Fleet& fleet_;
  const Endpoint endpoint_;
  AgentCore core_;
  // Channels live until the fleet's last callback has come.
  std::vector<std::shared_ptr<const WorkerChannel>> links_;
  std::unique_ptr<AttachStream> stream_;
  bool frozen_ = false;
  bool ended_ = false;

  bool stepping_ = false;
  std::deque<AgentEvent> inbox_;  // while it steps
  SteadyTime tick_at_ = SteadyTime::InfiniteFuture();

  std::optional<v1::WorkerState> waiting_state_;
  SteadyTime state_sent_at_;
  bool attached_ = false;

  uint64_t runs_ = 0;  // number of the newest run; an older one has ended
  std::deque<v1::ResultEnvelope> unsent_;
  std::shared_ptr<Call> sending_;
  SteadyTime retry_at_;
  std::deque<v1::ReleaseTaskRequest> unreleased_;
  bool releasing_ = false;
  SteadyTime received_at_;  // the newest DesiredState
  // When results were sent whose place no new lease has taken.
  std::deque<SteadyTime> freed_;
};

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_FLEET_WORKER_H_
