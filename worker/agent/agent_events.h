#ifndef QSWEEP_WORKER_AGENT_AGENT_EVENTS_H_
#define QSWEEP_WORKER_AGENT_AGENT_EVENTS_H_

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"

#include "common/base/ids.h"
#include "qsweep/v1/engine.pb.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// One grant of a task.
struct LeaseKey {
  TaskId task;
  Epoch epoch;
  auto operator<=>(const LeaseKey&) const = default;
};

// What happened, as AgentCore hears it.
namespace event {

// The spool was opened: these results of an earlier run wait in it. models:
// digests of those that earlier runs ran and that are on the disk still, the
// newest first.
struct Started {
  std::vector<LeaseKey> spooled;
  std::vector<std::string> models;
};

// From the stream. `stream` is the number OpenStream gave it.
struct StateReceived {
  uint64_t stream = 0;
  v1::DesiredState state;
};
struct StreamClosed {
  uint64_t stream = 0;
  absl::Status why;
};

// From the engine, in its order. Exited: ended or could not be started; once
// per StartEngine, last.
struct EngineBecameReady {
  v1::EngineReady ready;
};
struct EngineProgressed {
  v1::EngineProgress progress;
};
struct EngineFinished {
  v1::EngineDone done;
};
struct EngineRefused {
  v1::EngineFailed failed;
};
struct EngineExited {
  absl::Status why;
  bool killed = false;  // by a signal from elsewhere
};

// Answers to Fetch: model and texts are here, or why not.
struct Fetched {
  TaskId task;
  uint64_t grant = 0;
  std::shared_ptr<const v1::EngineRun> run;
};
struct FetchFailed {
  TaskId task;
  uint64_t grant = 0;
  absl::Status why;
};

// Answers to SpoolResult: on disk, or the disk cannot be trusted any more. A
// result that finds no room is kept and sent all the same.
struct ResultSpooled {
  LeaseKey lease;
};
struct SpoolFailed {
  LeaseKey lease;
  absl::Status why;
};
// The coordinator answered for a result.
struct ResultAnswered {
  LeaseKey lease;
  v1::CommitOutcome outcome = v1::COMMIT_OUTCOME_UNSPECIFIED;
  v1::Failure failure;
};
// The coordinator answered to Release.
struct ReleaseAnswered {
  LeaseKey lease;
};
// QS5009: the next result may find no room on the disk; what is there already
// is safe. OK: there is room again.
struct SpoolRoomChanged {
  absl::Status full;
};

// Answers to TakeNewIdentity: 16 bytes.
struct IdentityTaken {
  std::string worker_uuid;
};

struct ShutdownRequested {
  std::string reason;    // for people: "SIGTERM"
  bool at_once = false;  // else what runs may end, up to the drain deadline
};
struct Tick {};  // time has passed; see AgentCore::NextTick

}  // namespace event

using AgentEvent = std::variant<
    event::Started, event::StateReceived, event::StreamClosed,
    event::EngineBecameReady, event::EngineProgressed, event::EngineFinished,
    event::EngineRefused, event::EngineExited, event::Fetched,
    event::FetchFailed, event::ResultSpooled, event::SpoolFailed,
    event::ResultAnswered, event::ReleaseAnswered, event::SpoolRoomChanged,
    event::IdentityTaken, event::ShutdownRequested, event::Tick>;

// What the shell must do, in order. None of it blocks the thread that steps the
// core; answers come back as events.
namespace action {

struct OpenStream {
  uint64_t stream = 0;
  v1::WorkerState first;  // with its hello
  bool poll = false;      // by Synchronize calls
};
struct CloseStream {};  // StreamClosed of that stream is ignored afterwards
struct SendState {
  v1::WorkerState state;
};
struct Fetch {
  TaskId task;
  uint64_t grant = 0;  // comes back in the answer: older answers are ignored
  v1::TaskSpec spec;
};
struct StartEngine {};
struct Run {
  std::shared_ptr<const v1::EngineRun> run;
};
struct CancelRun {
  TaskId task;
};
struct KillEngine {};
// Make durable, then CommitResult until answered.
struct SpoolResult {
  LeaseKey lease;
  v1::ResultEnvelope envelope;
};
// ReleaseTask until answered.
struct Release {
  v1::ReleaseTaskRequest request;
};
// Remember for the next start that this model was run from there.
struct KeepModel {
  std::string digest;
  std::string path;
};
// Make up a worker_uuid and keep it: another process has the one we had.
struct TakeNewIdentity {};
// The agent is done; not OK: why it cannot go on.
struct Exit {
  absl::Status status;
};
// A line for the log: the core has no log of its own.
struct Note {
  std::string text;
};

}  // namespace action

using AgentAction =
    std::variant<action::OpenStream, action::CloseStream, action::SendState,
                 action::Fetch, action::StartEngine, action::Run,
                 action::CancelRun, action::KillEngine, action::SpoolResult,
                 action::Release, action::KeepModel, action::TakeNewIdentity,
                 action::Exit, action::Note>;

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_AGENT_EVENTS_H_
