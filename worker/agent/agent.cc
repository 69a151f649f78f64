#include "worker/agent/agent.h"

#include <algorithm>
#include <cstring>
#include <errno.h>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/mutex.h"
#include "common/base/planted.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "worker/agent/engine_runner.h"
#include "worker/agent/fetcher.h"
#include "worker/agent/mailbox.h"
#include "worker/agent/model_list.h"
#include "worker/agent/result_sender.h"

namespace qsweep {
namespace {

absl::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(
        absl::StrCat("cannot make '", path, "': ", strerror(errno)));
  }
  return absl::OkStatus();
}

LeaseKey KeyOf(const v1::ResultEnvelope& envelope) {
  return {TaskId(static_cast<int64_t>(envelope.task_id())),
          Epoch(static_cast<int64_t>(envelope.epoch()))};
}

// What waits in the spool, by task; of two grants the newer. And the models.
event::Started StartedWith(const Spool::Opened& opened,
                           const ModelList& models) {
  event::Started started;
  for (const Digest& model : models.Read()) {
    started.models.push_back(model.bytes());
  }
  for (const Spool::Record& record : opened.pending) {
    v1::ResultEnvelope envelope;
    if (envelope.ParseFromString(record.payload)) {
      started.spooled.push_back(KeyOf(envelope));
    }
  }
  return started;
}

}  // namespace

struct Agent::Impl {
  Impl(const AgentOptions& agent_options,
       std::unique_ptr<WorkerClient> worker_client, Spool::Opened opened)
      : options(agent_options),
        client(std::move(worker_client)),
        models(options.directory + "/models"),
        core(options.settings) {
    events.Put(StartedWith(opened, models));
    const auto post = [this](AgentEvent event) {
      events.Put(std::move(event));
    };
    sender.emplace(options.directory, std::move(opened), client.get(), post);
    engine.emplace(options.engine, post);
    fetch_thread = std::thread([this] { FetchTasks(); });
    control_thread = std::thread([this] { Control(); });
  }

  ~Impl() {
    events.Close();
    control_thread.join();
  }

  // Steps the core until it exits. The only thread that touches core and
  // stream.
  void Control() {
    while (!exited) {
      const absl::Duration pause = core.NextTick() - Clock::Real().SteadyNow();
      std::optional<AgentEvent> event =
          events.Take(std::max(pause, absl::ZeroDuration()));
      if (!event && events.closed()) {
        break;
      }
      for (AgentAction& action :
           core.Step(event ? *std::move(event) : AgentEvent(event::Tick{}),
                     Clock::Real().SteadyNow())) {
        std::visit([this](auto& a) { Do(a); }, action);
      }
    }
    events.Close();
    stream.reset();
    fetches.Close();
    client->CancelCalls();
    fetch_thread.join();
    engine.reset();
    sender.reset();
    MutexLock lock(mutex);
    ended = true;
    ended_changed.NotifyAll();
  }

  void FetchTasks() {
    // Repeats end with the agent.
    Fetcher fetcher(options.directory + "/cache", client.get(),
                    [this](absl::Duration pause) {
                      return !fetches.WaitUntilClosed(pause);
                    });
    while (auto errand = fetches.Take()) {
      if (const auto* uuid = std::get_if<WorkerUuid>(&*errand)) {
        KeepIdentity(*uuid);
        continue;
      }
      if (const auto* keep = std::get_if<action::KeepModel>(&*errand)) {
        if (const auto digest = Digest::FromBytes(keep->digest); digest.ok()) {
          models.Keep(*digest, keep->path);
        }
        continue;
      }
      const auto* fetch = std::get_if<action::Fetch>(&*errand);
      auto run = fetcher.Fetch(fetch->spec);
      if (run.ok()) {
        events.Put(event::Fetched{fetch->task, fetch->grant, *std::move(run)});
      } else {
        events.Put(event::FetchFailed{fetch->task, fetch->grant,
                                      std::move(run).status()});
      }
    }
  }

  // Without it the next start meets the other process once more.
  void KeepIdentity(const WorkerUuid& uuid) {
    const absl::Status kept =
        options.keep_identity ? options.keep_identity(uuid) : absl::OkStatus();
    if (!kept.ok()) {
      LogWarning(
          absl::StrCat("the new identity is not kept: ", kept.message()));
    }
  }

  void Do(action::OpenStream& open) {
    const uint64_t number = open.stream;
    stream.reset();
    AttachCallbacks callbacks = {
        .on_state =
            [this, number](v1::DesiredState state) {
              if (state.has_welcome()) {
                sender->Hurry();
              }
              events.Put(event::StateReceived{number, std::move(state)});
            },
        .on_closed =
            [this, number](absl::Status why) {
              events.Put(event::StreamClosed{number, std::move(why)});
            }};
    stream = open.poll ? client->Poll(open.first, std::move(callbacks))
                       : client->Attach(open.first, std::move(callbacks));
  }
  void Do(action::CloseStream&) { stream.reset(); }
  void Do(action::SendState& send) {
    if (stream != nullptr) {
      stream->Send(send.state);
    }
  }
  void Do(action::Fetch& fetch) { fetches.Put(std::move(fetch)); }
  void Do(action::StartEngine&) { engine->Start(); }
  void Do(action::Run& run) {
    engine->Run(*run.run);
    if (Planted(Bug::kHeartbeatOnComputeThread)) {
      AwaitEngine();
    }
  }
  // What a thread that computes does: nothing else meanwhile.
  void AwaitEngine() {
    std::vector<AgentEvent> met;
    while (std::optional<AgentEvent> event = events.Take()) {
      met.push_back(*std::move(event));
      if (std::holds_alternative<event::EngineFinished>(met.back())) {
        break;
      }
    }
    for (AgentEvent& event : met) {
      events.Put(std::move(event));
    }
  }
  void Do(action::CancelRun& cancel) { engine->Cancel(cancel.task); }
  void Do(action::KillEngine&) { engine->Kill(); }
  void Do(action::SpoolResult& spool) { sender->Send(spool.envelope); }
  void Do(action::Release& release) { sender->Release(release.request); }
  void Do(action::KeepModel& keep) { fetches.Put(std::move(keep)); }
  void Do(action::TakeNewIdentity&) {
    const auto uuid =
        WorkerUuid::FromBytes(SecureRandomBytes(WorkerUuid::kSize));
    QSWEEP_CHECK(uuid.ok());
    fetches.Put(*uuid);  // to the disk, not on this thread
    events.Put(event::IdentityTaken{uuid->bytes()});
  }
  void Do(action::Note& note) { LogInfo(note.text); }
  void Do(action::Exit& exit) {
    exited = true;
    MutexLock lock(mutex);
    status = exit.status;
  }

  // Constant, or with own synchronisation.
  const AgentOptions options;
  const std::unique_ptr<WorkerClient> client;
  Mailbox<AgentEvent> events;
  // What the fetch thread does next.
  Mailbox<std::variant<action::Fetch, action::KeepModel, WorkerUuid>> fetches;
  const ModelList models;  // after the start the fetch thread's

  // The control thread's.
  AgentCore core;
  std::unique_ptr<AttachStream> stream;
  std::optional<ResultSender> sender;
  std::optional<EngineRunner> engine;
  bool exited = false;

  Mutex mutex;
  CondVar ended_changed;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  absl::Status status ABSL_GUARDED_BY(mutex);

  std::thread fetch_thread;
  std::thread control_thread;
};

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(
    const AgentOptions& options, std::unique_ptr<WorkerClient> client) {
  QSWEEP_RETURN_IF_ERROR(MakeFolder(options.directory + "/cache"));
  QSWEEP_RETURN_IF_ERROR(MakeFolder(options.directory + "/spool"));
  Spool::Options spool = options.spool;
  spool.directory = options.directory + "/spool";
  QSWEEP_ASSIGN_OR_RETURN(Spool::Opened opened, Spool::Open(spool));
  if (opened.torn_bytes > 0) {
    LogInfo(absl::StrCat("the spool ends in ", opened.torn_bytes,
                         " bytes of a write that was cut short; dropped"));
  }
  for (const absl::Status& damage : opened.damaged) {
    LogError(FormatErrorForPeople(damage));
  }
  return std::unique_ptr<Agent>(new Agent(
      std::make_unique<Impl>(options, std::move(client), std::move(opened))));
}

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Agent::~Agent() = default;

void Agent::Drain(const std::string& reason) {
  impl_->events.Put(event::ShutdownRequested{reason});
}

void Agent::Shutdown(const std::string& reason) {
  impl_->events.Put(event::ShutdownRequested{reason, /*at_once=*/true});
}

absl::Status Agent::Wait() {
  MutexLock lock(impl_->mutex);
  while (!impl_->ended) {
    impl_->ended_changed.Wait(impl_->mutex);
  }
  return impl_->status;
}

}  // namespace qsweep
