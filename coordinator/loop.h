#ifndef QSWEEP_COORDINATOR_LOOP_H_
#define QSWEEP_COORDINATOR_LOOP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/ids.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "coordinator/store/store.h"
#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// Called once, after what it reports is on disk: on the loop thread, or on the
// caller's when the queue refuses the call. Must not block. Errors: the Decide
// function's; UNAVAILABLE when the commit failed or the loop ends before an
// answer (all calls may be repeated); RESOURCE_EXHAUSTED QS4040 when the queue
// is too long.
template <typename Response>
using Reply = std::function<void(absl::StatusOr<Response>)>;

// Who calls, as authenticated by the transport; equal text, equal identity.
// Empty: the peer of a unix socket.
struct Caller {
  std::string identity;
  Digest secret;  // SHA-256 of the secret that was shown; empty: a local caller
};

struct PreparedSubmit;
class TokenTable;

// The coordinator's end of one Attach stream. The service implements it with
// an outbox; called on the loop thread, must not block. Each DesiredState is
// whole, so the outbox may keep the newest only.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(v1::DesiredState state) = 0;
  // The last call: refused (FAILED_PRECONDITION QS6003), superseded by a newer
  // session (ABORTED), or the loop ends (UNAVAILABLE).
  virtual void Close(absl::Status status) = 0;
};

// One WatchJob stream. Called on the loop thread, must not block.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  // False: the buffer is full or the client is gone. The loop forgets the sink
  // then; a slow client resumes from its last sequence number. A progress
  // frame may be dropped silently (true).
  virtual bool Send(v1::WatchEvent event) = 0;
  // How many events Send takes now: old ones are sent no faster than the
  // client reads them. After 0 the sink calls Loop::PostRoom, from any thread,
  // once there is some or its client is gone; until then nobody asks again.
  virtual int Room() = 0;
  // The last call. OK after the event that ends the job.
  virtual void Close(absl::Status status) = 0;
};

// START HERE. The one thread that owns State and all writes.
//
//   request -> queue -> Decide*(state, request, now) -> mutations -> Apply
//           -> one Store::Commit for the batch -> replies, pushes, events
//
// Nothing leaves before its COMMIT; a commit that fails drops State, loads it
// again and answers the batch with UNAVAILABLE. A restart is the same code.
//
// A step (LoopCore::RunStep, loop_core.cc: the next to read), in this order:
//   calls that wait (call_queue.h)     each runs its function of loop_calls.h,
//                                      loop_control.h or loop_access.h
//   a slice of what is long            large submits (loop_plans.h), tasks of
//                                      jobs that are dropped, deleted jobs
//   what is due                        leases, beats, back-offs, deadlines
//   leases to workers with credit      not while more calls wait
//   the commit, then the answers
//   news to workers (loop_links.h) and to watchers (loop_watchers.h)
//   nothing to do: a checkpoint of the write-ahead log
//
//   Loop loop(std::move(store), settings, Clock::Real(), seed);
//   QSWEEP_RETURN_IF_ERROR(loop.Start());
//   std::thread thread([&] { status = loop.Run(); });
//   loop.Post(request, [](absl::StatusOr<v1::SubmitJobResponse> r) { ... });
//   loop.Stop();
//   thread.join();
// Post* and Stop are thread-safe; all else belongs to the thread that calls
// Run, or Step in tests and simulation.
class Loop {
 public:
  // seed: of session ids and back-off jitter. `clock` outlives the loop.
  Loop(std::unique_ptr<Store> store, const Settings& settings,
       const Clock& clock, uint64_t seed);
  ~Loop();

  // Called on the loop thread with each job that has ended, once that is on
  // disk and before anybody is told. Must not block. Before Start.
  void OnJobEnd(std::function<void(v1::JobSummary)> hook);

  // Loads State and commits the new coordinator epoch. Once, before the rest.
  // Errors: the store's.
  absl::Status Start();

  // Runs steps until Stop, then commits what is queued, answers the rest with
  // UNAVAILABLE and closes links and sinks. An error is fatal (DATA_LOSS, or a
  // reload that failed): nothing unanswered was acknowledged, the process must
  // exit non-zero.
  absl::Status Run();
  // Drains: workers hear `going_away`, no new lease, Run returns.
  void Stop();

  // One batch: what is queued, what is due at `now`, leases, one commit. OK,
  // or fatal as for Run. True in `*idle`, when given: there was nothing to do.
  absl::Status Step(SteadyTime now, bool* idle = nullptr);
  // Run's end, for who calls Step: links and sinks are closed, calls that wait
  // get UNAVAILABLE, later ones too. `status` is what Step returned last.
  void End(const absl::Status& status);
  // When Step has something to do without a request.
  SteadyTime NextDeadline() const;
  const State& state() const;  // after Start; loop thread only

  // The tokens that are on disk. Thread-safe; after Start.
  const TokenTable& tokens() const;

  // True while the loop commits what is queued within 5 s. Thread-safe.
  bool Healthy() const;

  // qctl's calls. Those with a caller change something: UNAUTHENTICATED when
  // its token has ended, or has got another secret, while they waited.
  void Post(v1::GetStatusRequest request, Reply<v1::GetStatusResponse> reply);
  // prepared: what PrepareSubmit makes of the request, which takes seconds for
  // a large corpus; null, or of corpora that the names do not mean any more: it
  // is made on the loop thread.
  void Post(Caller caller, v1::SubmitJobRequest request,
            Reply<v1::SubmitJobResponse> reply,
            std::shared_ptr<const PreparedSubmit> prepared = nullptr);
  void Post(Caller caller, v1::CancelJobRequest request,
            Reply<v1::CancelJobResponse> reply);
  // prepared: of a RETRY, what PrepareSubmit makes of what the job was planned
  // from; null, or of another job: it is made on the loop thread if need be.
  void Post(Caller caller, v1::ControlJobRequest request,
            Reply<v1::ControlJobResponse> reply,
            std::shared_ptr<const PreparedSubmit> prepared = nullptr);
  void Post(v1::ExplainTaskRequest request,
            Reply<v1::ExplainTaskResponse> reply);
  void Post(Caller caller, v1::ControlWorkerRequest request,
            Reply<v1::ControlWorkerResponse> reply);
  void Post(Caller caller, v1::CollectGarbageRequest request,
            Reply<v1::CollectGarbageResponse> reply);
  void Post(v1::ListJobsRequest request, Reply<v1::ListJobsResponse> reply);
  // Summary and last_seq: the rest is what a reader finds in the database, of
  // a large job in seconds.
  void Post(v1::GetJobRequest request, Reply<v1::GetJobResponse> reply);
  void Post(v1::ListTasksRequest request, Reply<v1::ListTasksResponse> reply);
  void Post(v1::ListWorkersRequest request,
            Reply<v1::ListWorkersResponse> reply);
  void Post(Caller caller, v1::AddCorpusRequest request,
            Reply<v1::AddCorpusResponse> reply);
  void Post(v1::ListCorporaRequest request,
            Reply<v1::ListCorporaResponse> reply);
  // Which job a selector means, for readers of rows. NOT_FOUND QS4020,
  // INVALID_ARGUMENT QS4024.
  void Post(v1::JobSelector selector, Reply<v1::JobSummary> reply);
  // Tokens. Join is called with the join token's number.
  void Post(Caller caller, v1::CreateTokenRequest request,
            Reply<v1::CreateTokenResponse> reply);
  void Post(v1::ListTokensRequest request, Reply<v1::ListTokensResponse> reply);
  void Post(Caller caller, v1::RevokeTokenRequest request,
            Reply<v1::RevokeTokenResponse> reply);
  void Post(Caller caller, v1::RotateTokenRequest request,
            Reply<v1::RotateTokenResponse> reply);
  void PostJoin(TokenId join_token, v1::JoinRequest request,
                Reply<v1::JoinResponse> reply);
  // A line for the audit; dropped when it cannot be stored now.
  void PostAudit(AuditRecorded record);
  // Stores a whole artifact. INVALID_ARGUMENT QS4042: `bytes` do not have the
  // digest.
  void PostArtifact(const Digest& digest, std::string bytes,
                    Reply<v1::PutArtifactResponse> reply);
  // Sends the snapshot, the events above from_seq and what follows to `sink`,
  // until it refuses, the job ends or the caller's token is revoked. NOT_FOUND
  // through sink->Close.
  void PostWatch(Caller caller, v1::WatchJobRequest request,
                 std::shared_ptr<WatchSink> sink);
  // A sink that had no room has some.
  void PostRoom();

  // Workers' calls.
  void Post(Caller caller, v1::CommitResultRequest request,
            Reply<v1::CommitResultResponse> reply);
  void Post(Caller caller, v1::ReleaseTaskRequest request,
            Reply<v1::ReleaseTaskResponse> reply);
  void Post(Caller caller, v1::WorkerState state,
            Reply<v1::DesiredState> reply);
  // Each message of an Attach stream, in order, with its link. Then its end,
  // once, whoever ended it: until then the loop keeps the link. taken: called
  // once, as a Reply is, when the message does not wait any more; who reads the
  // next one only then, makes its sender wait instead of our memory. Empty:
  // nobody is told.
  void PostAttach(Caller caller, v1::WorkerState state,
                  std::shared_ptr<WorkerLink> link,
                  std::function<void()> taken = nullptr);
  void PostDetach(std::shared_ptr<WorkerLink> link);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_H_
