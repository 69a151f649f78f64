#include "worker/agent/engine_runner.h"

#include <optional>
#include <utility>

#include "common/base/log.h"

namespace qsweep {
namespace {

AgentEvent ToAgentEvent(v1::EngineEvent event) {
  switch (event.event_case()) {
    case v1::EngineEvent::kReady:
      return event::EngineBecameReady{std::move(*event.mutable_ready())};
    case v1::EngineEvent::kProgress:
      return event::EngineProgressed{std::move(*event.mutable_progress())};
    case v1::EngineEvent::kDone:
      return event::EngineFinished{std::move(*event.mutable_done())};
    case v1::EngineEvent::kFailed:
      return event::EngineRefused{std::move(*event.mutable_failed())};
    case v1::EngineEvent::EVENT_NOT_SET:
      break;
  }
  return event::Tick{};  // of a newer engine; it means nothing to us
}

}  // namespace

EngineRunner::EngineRunner(const EngineProcess::Options& options, Post post)
    : options_(options), post_(std::move(post)) {
  thread_ = std::thread([this] { Serve(); });
}

EngineRunner::~EngineRunner() {
  commands_.Close();
  Kill();
  thread_.join();
  MutexLock lock(mutex_);
  engine_.reset();
}

void EngineRunner::Start() {
  {
    MutexLock lock(mutex_);
    kill_wanted_ = false;
  }
  commands_.Put(nullptr);
}

void EngineRunner::Run(const v1::EngineRun& run) {
  auto request = std::make_shared<v1::EngineRequest>();
  *request->mutable_run() = run;
  commands_.Put(std::move(request));
}

void EngineRunner::Cancel(TaskId task) {
  auto request = std::make_shared<v1::EngineRequest>();
  request->mutable_cancel()->set_task_id(static_cast<uint64_t>(task.value()));
  commands_.Put(std::move(request));
}

void EngineRunner::Kill() {
  MutexLock lock(mutex_);
  kill_wanted_ = true;
  if (engine_ != nullptr) {
    engine_->Kill();
  }
}

void EngineRunner::Serve() {
  while (std::optional<Command> command = commands_.Take()) {
    if (*command == nullptr) {
      StartEngine();
    } else {
      Send(**command);
    }
  }
}

EngineProcess::Callbacks EngineRunner::Callbacks() const {
  return {.on_event =
              [this](v1::EngineEvent event) {
                post_(ToAgentEvent(std::move(event)));
              },
          .on_exit =
              [this](absl::Status why, bool killed) {
                post_(event::EngineExited{std::move(why), killed});
              }};
}

void EngineRunner::StartEngine() {
  std::shared_ptr<EngineProcess> old;
  {
    MutexLock lock(mutex_);
    old = std::exchange(engine_, nullptr);
  }
  old.reset();  // joins its reader, outside the lock
  auto started = EngineProcess::Start(options_, Callbacks());
  if (!started.ok()) {
    post_(event::EngineExited{started.status()});
    return;
  }
  MutexLock lock(mutex_);
  engine_ = *std::move(started);
  if (kill_wanted_) {
    engine_->Kill();
  }
}

void EngineRunner::Send(const v1::EngineRequest& request) {
  std::shared_ptr<EngineProcess> engine;
  {
    MutexLock lock(mutex_);
    engine = engine_;
  }
  // When the engine is gone its exit says so, and ends the task.
  if (engine == nullptr) {
    return;
  }
  if (const absl::Status sent = engine->Send(request); !sent.ok()) {
    LogWarning(sent.message());
  }
}

}  // namespace qsweep
