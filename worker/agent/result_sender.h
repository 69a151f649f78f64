#ifndef QSWEEP_WORKER_AGENT_RESULT_SENDER_H_
#define QSWEEP_WORKER_AGENT_RESULT_SENDER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/worker_client.h"
#include "worker/agent/agent_events.h"
#include "worker/agent/spool.h"

namespace qsweep {

// The thread that owns the spool and everything durable that is said to the
// coordinator: results go to the disk, then to CommitResult until answered;
// releases to ReleaseTask until answered. What comes in together is one sync
// and one call. While nobody answers it backs off, up to 20 s; a result that is
// refused alone waits alone, up to 5 min, and holds up no other. One that is
// rejected, or refused for what it is, is set aside. A result that finds no
// room on the disk is kept in memory and sent from there; the agent is told
// when room gets scarce. Answers are events, posted from its thread.
// Thread-safe.
class ResultSender {
 public:
  using Post = std::function<void(AgentEvent)>;

  // directory: where rejected results are set aside. client must outlive it.
  // Results that wait in the spool are sent at once.
  ResultSender(std::string directory, Spool::Opened opened,
               WorkerClient* client, Post post);
  ~ResultSender();  // ends after the call that runs

  void Send(const v1::ResultEnvelope& result);
  void Release(const v1::ReleaseTaskRequest& request);
  // The coordinator is back: do not wait for the next attempt.
  void Hurry();

 private:
  struct Unsent {
    std::optional<Spool::RecordId> record;  // nothing: not on the disk
    v1::ResultEnvelope envelope;
    int refusals = 0;     // of this result alone, in a row
    SteadyTime retry_at;  // not before
  };
  struct Incoming {
    std::vector<v1::ResultEnvelope> results;
    std::vector<v1::ReleaseTaskRequest> releases;
  };

  void Run();
  bool WaitForWork(Incoming& incoming);
  SteadyTime NextAttempt() const;
  void Append(std::vector<v1::ResultEnvelope> results);
  // Puts on the disk what found no room before; tells the agent how it stands.
  void UseRoom();
  // False: nobody answers.
  bool SendResults();
  bool SendReleases();
  // What the answer means for this result. Settled ones have no task id any
  // more.
  void TakeOutcome(Unsent& unsent, const v1::CommitResultResponse::One& one);
  void TakeRefusal(Unsent& unsent, const absl::Status& why);
  void Postpone(Unsent& unsent, absl::string_view why);
  void Settle(Unsent& unsent, const v1::CommitResultResponse::One& one);
  // Keeps a rejected result outside of the spool. UNAVAILABLE: it could not be
  // written.
  absl::Status SetAside(const v1::ResultEnvelope& envelope);

  const std::string directory_;
  WorkerClient* const client_;
  const Post post_;

  // The sender's thread only.
  const std::unique_ptr<Spool> spool_;
  std::vector<Unsent> unsent_;
  std::vector<v1::ReleaseTaskRequest> unreleased_;
  Random random_;
  int failures_ = 0;  // calls nobody answered, in a row
  SteadyTime retry_at_;
  bool told_full_ = false;

  Mutex mutex_;
  CondVar changed_;
  Incoming incoming_ ABSL_GUARDED_BY(mutex_);
  bool hurry_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_RESULT_SENDER_H_
