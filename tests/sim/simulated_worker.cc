#include "tests/sim/simulated_worker.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/rpc/failure.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::sim {
namespace {

constexpr absl::Duration kCallDeadline = absl::Seconds(10);

LeaseKey KeyOf(const v1::ReleaseTaskRequest& request) {
  return {TaskId(static_cast<int64_t>(request.task_id())),
          Epoch(static_cast<int64_t>(request.epoch()))};
}

}  // namespace

SimulatedWorker::SimulatedWorker(const Options& options, Schedule& schedule,
                                 Network& network, Random& random,
                                 Counts& counts, Trace& trace, Oracles& oracles,
                                 CoordinatorProcess& coordinator)
    : options_(options),
      schedule_(schedule),
      network_(network),
      random_(random),
      counts_(counts),
      trace_(trace),
      oracles_(oracles),
      coordinator_(coordinator),
      uuid_(*WorkerUuid::FromBytes(
          Digest::Of("worker " + options.name).bytes().substr(0, 16))) {}

absl::Duration SimulatedWorker::UpTo(absl::Duration most) {
  return absl::Trunc(most * random_.Uniform(), absl::Microseconds(1));
}

void SimulatedWorker::Start() {
  ++life_;
  network_.NewLife(options_.node);
  AgentSettings settings;
  settings.seed = random_.Next();
  if (Chance(0.2)) {
    settings.control = Control::kPoll;
  }
  settings.hello.set_protocol_min(1);
  settings.hello.set_protocol_max(1);
  settings.hello.set_worker_uuid(uuid_.bytes());
  settings.hello.set_boot_id(
      Digest::Of(absl::StrCat(settings.seed)).bytes().substr(0, 16));
  settings.hello.set_boot_seq(++boot_seq_);
  settings.hello.set_name(options_.name);
  if (faulty_ && Chance(0.1)) {
    counts_.faults.Add("worker with a time limit");
    settings.lifetime = absl::Seconds(30) + UpTo(absl::Seconds(300));
  }
  if (Chance(0.2)) {
    settings.on_server_lost = OnServerLost::kStop;
  }
  core_ = std::make_unique<AgentCore>(settings);
  trace_.Line(options_.name, " started, boot ", boot_seq_);
  event::Started started;
  for (const auto& [lease, envelope] : spool_) {
    started.spooled.push_back(lease);
  }
  started.models = models_;
  Feed(std::move(started));
  for (const auto& [lease, envelope] : spool_) {
    SendResult(lease);
  }
}

void SimulatedWorker::CloneFrom(const SimulatedWorker& other) {
  uuid_ = other.uuid_;
  tokens_ = other.tokens_;
  spool_.clear();  // of the one it was a copy of before
  boot_seq_ = other.boot_seq_ - 1;
}

void SimulatedWorker::Later(absl::Duration delay, std::function<void()> run) {
  schedule_.After(delay, [this, life = life_, run = std::move(run)] {
    if (life == life_) {
      run();
    }
  });
}

void SimulatedWorker::Feed(AgentEvent event) {
  if (core_ == nullptr) {
    return;
  }
  if (schedule_.now() < frozen_until_) {
    inbox_.push_back(std::move(event));
    return;
  }
  StepCore(event);
}

void SimulatedWorker::StepCore(const AgentEvent& event) {
  for (const AgentAction& action : core_->Step(event, schedule_.now())) {
    std::visit([this](const auto& a) { Do(a); }, action);
    if (core_ == nullptr) {
      return;  // it has ended
    }
  }
  ScheduleTick();
}

void SimulatedWorker::ScheduleTick() {
  const SteadyTime next = std::max(core_->NextTick(), schedule_.now());
  if (next >= tick_at_) {
    return;
  }
  tick_at_ = next;
  schedule_.At(next, [this, life = life_, next] {
    if (life == life_ && tick_at_ == next) {
      tick_at_ = SteadyTime::InfiniteFuture();
      Feed(event::Tick{});
    }
  });
}

void SimulatedWorker::Freeze(absl::Duration duration) {
  if (!up() || schedule_.now() < frozen_until_) {
    return;
  }
  trace_.Line(options_.name, " frozen for ", absl::FormatDuration(duration));
  frozen_until_ = schedule_.now() + duration;
  Later(duration, [this] {
    trace_.Line(options_.name, " goes on");
    for (AgentEvent& event : std::exchange(inbox_, {})) {
      if (up()) {
        StepCore(event);
      }
    }
    if (up()) {
      StepCore(event::Tick{});
    }
  });
}

void SimulatedWorker::Shutdown() {
  if (up()) {
    trace_.Line(options_.name, " is told to leave");
    Feed(event::ShutdownRequested{"SIGTERM"});
  }
}

void SimulatedWorker::Kill(bool machine_lost) {
  if (up()) {
    trace_.Line(options_.name, " killed", machine_lost ? ", machine gone" : "");
    End(!machine_lost);
  }
}

void SimulatedWorker::End(bool say_so) {
  if (stream_ != nullptr && say_so) {
    network_.Send(options_.node, kCoordinator,
                  [coordinator = &coordinator_, stream = stream_] {
                    coordinator->Hangup(stream);
                  });
  }
  stream_.reset();
  core_.reset();
  ++life_;
  network_.NewLife(options_.node);
  frozen_until_ = SteadyTime();
  inbox_.clear();
  tick_at_ = SteadyTime::InfiniteFuture();
  run_ = {};
  releases_.clear();
  resident_.clear();
  if (keeps_running_) {
    Later(absl::Seconds(1) + UpTo(absl::Seconds(30)), [this] {
      if (keeps_running_ && !up()) {
        Start();
      }
    });
  }
}

void SimulatedWorker::Do(const action::OpenStream& open) {
  stream_ = std::make_shared<Stream>();
  stream_->worker = options_.node;
  stream_->number = random_.Next();
  stream_->uuid = uuid_;
  stream_->token = token();
  const auto life = life_;
  stream_->on_state = [this, life, n = open.stream](v1::DesiredState state) {
    if (life == life_) {
      if (state.has_welcome()) {
        for (const auto& [lease, envelope] : spool_) {
          SendResult(lease);
        }
      }
      Feed(event::StateReceived{n, std::move(state)});
    }
  };
  stream_->on_closed = [this, life, n = open.stream](absl::Status why) {
    if (life == life_) {
      Feed(event::StreamClosed{n, std::move(why)});
    }
  };
  stream_polls_ = open.poll;
  if (open.poll) {
    counts_.faults.Add("worker polls");
    SendPoll(open.first);
    return;
  }
  SteadyTime last;
  network_.SendInOrder(
      options_.node, kCoordinator, &last,
      [coordinator = &coordinator_, stream = stream_, first = open.first] {
        coordinator->Hello(stream, first);
      });
}

void SimulatedWorker::SendPoll(const v1::WorkerState& state) {
  network_.Send(options_.node, kCoordinator,
                [coordinator = &coordinator_, stream = stream_, state] {
                  coordinator->Poll(stream, state);
                });
}

void SimulatedWorker::Do(const action::KeepModel& keep) {
  models_.insert(models_.begin(), keep.digest);
}

void SimulatedWorker::Do(const action::TakeNewIdentity&) {
  counts_.checks.Add("worker took a new identity");
  uuid_ = *WorkerUuid::FromBytes(
      Digest::Of(absl::StrCat(random_.Next())).bytes().substr(0, 16));
  Later(absl::Milliseconds(5),
        [this] { Feed(event::IdentityTaken{uuid_.bytes()}); });
}

void SimulatedWorker::Do(const action::CloseStream&) {
  if (stream_ != nullptr && !stream_polls_) {
    network_.Send(options_.node, kCoordinator,
                  [coordinator = &coordinator_, stream = stream_] {
                    coordinator->Hangup(stream);
                  });
  }
  stream_.reset();
}

void SimulatedWorker::Do(const action::SendState& send) {
  if (stream_ != nullptr && stream_polls_) {
    SendPoll(send.state);
  } else if (stream_ != nullptr) {
    network_.Send(options_.node, kCoordinator,
                  [coordinator = &coordinator_, stream = stream_,
                   state = send.state] { coordinator->Beat(stream, state); });
  }
}

void SimulatedWorker::Do(const action::Fetch& fetch) {
  const bool warm = fetch.spec.model_digest() == resident_;
  absl::Duration delay = warm ? UpTo(absl::Milliseconds(200))
                              : absl::Seconds(1) + UpTo(absl::Seconds(5));
  if (faulty_ && Chance(0.005)) {
    counts_.faults.Add("fetch failed");
    Later(delay, [this, task = fetch.task, grant = fetch.grant] {
      Feed(event::FetchFailed{task, grant,
                              absl::UnavailableError("no such host")});
    });
    return;
  }
  auto run = std::make_shared<v1::EngineRun>();
  *run->mutable_task() = fetch.spec;
  Later(delay, [this, task = fetch.task, grant = fetch.grant, run] {
    Feed(event::Fetched{task, grant, run});
  });
}

void SimulatedWorker::Do(const action::StartEngine&) {
  if (faulty_ && Chance(0.01)) {
    counts_.faults.Add("engine does not start");
    Later(absl::Seconds(1), [this] {
      Feed(event::EngineExited{absl::UnavailableError("no device")});
    });
    return;
  }
  v1::EngineReady ready;
  ready.set_fingerprint("simulated");
  ready.set_device(options_.device.empty() ? "cpu" : options_.device);
  ready.set_gflops(60);
  ready.mutable_evaluations()->Assign(options_.evaluations.begin(),
                                      options_.evaluations.end());
  ready.mutable_methods()->Assign(options_.methods.begin(),
                                  options_.methods.end());
  ready.set_memory_bytes(options_.memory_bytes);
  Later(absl::Seconds(1),
        [this, ready] { Feed(event::EngineBecameReady{ready}); });
}

void SimulatedWorker::Do(const action::CancelRun& cancel) {
  const bool deaf = faulty_ && Chance(0.2);  // the agent has to kill it
  if (deaf || run_.run == nullptr ||
      run_.run->task().task_id() !=
          static_cast<uint64_t>(cancel.task.value())) {
    return;
  }
  run_ = {};
  Later(absl::Milliseconds(50), [this, task = cancel.task] {
    event::EngineRefused refused;
    refused.failed.set_task_id(static_cast<uint64_t>(task.value()));
    *refused.failed.mutable_failure() =
        FailureFromStatus(absl::CancelledError("cancelled"), true);
    Feed(std::move(refused));
  });
}

void SimulatedWorker::Do(const action::KillEngine&) {
  run_ = {};
  resident_.clear();
  Later(absl::Milliseconds(100), [this] {
    Feed(event::EngineExited{absl::UnavailableError("killed")});
  });
}

void SimulatedWorker::Do(const action::SpoolResult& spool) {
  oracles_.OnProduced(spool.envelope);
  spool_[spool.lease] = spool.envelope;
  Later(absl::Milliseconds(5), [this, lease = spool.lease] {
    Feed(event::ResultSpooled{lease});
    SendResult(lease);
  });
}

bool SimulatedWorker::WaitsForThaw(const std::function<void()>& run) {
  if (schedule_.now() >= frozen_until_) {
    return false;
  }
  Later(frozen_until_ - schedule_.now(), run);
  return true;
}

void SimulatedWorker::SendResult(const LeaseKey& lease) {
  const auto it = spool_.find(lease);
  if (it == spool_.end() || !up() ||
      WaitsForThaw([this, lease] { SendResult(lease); })) {
    return;
  }
  v1::CommitResultRequest request;
  *request.add_results() = it->second;
  network_.Send(
      options_.node, kCoordinator,
      [this, life = life_, lease, request = std::move(request)] {
        coordinator_.CallWith<v1::CommitResultResponse>(
            token(), options_.node, request,
            [this, life,
             lease](const absl::StatusOr<v1::CommitResultResponse>& response) {
              if (life == life_) {
                TakeAnswer(lease, response);
              }
            });
      });
  Later(kCallDeadline, [this, lease] { SendResult(lease); });
}

void SimulatedWorker::TakeAnswer(
    const LeaseKey& lease,
    const absl::StatusOr<v1::CommitResultResponse>& response) {
  const auto it = spool_.find(lease);
  if (it == spool_.end() ||
      WaitsForThaw([this, lease, response] { TakeAnswer(lease, response); })) {
    return;  // answered before
  }
  if (!response.ok()) {
    if (absl::IsInternal(response.status())) {
      oracles_.Fail(2, absl::StrCat("a result was answered with ",
                                    response.status().ToString()));
    }
    return;  // it is sent again
  }
  const v1::CommitResultResponse::One& one = response->results(0);
  trace_.Line(options_.name, " task ", lease.task.value(), " epoch ",
              lease.epoch.value(), " ", v1::CommitOutcome_Name(one.outcome()));
  oracles_.OnResultAnswered(it->second, one.outcome());
  spool_.erase(it);
  Feed(event::ResultAnswered{lease, one.outcome(), one.failure()});
}

void SimulatedWorker::Do(const action::Release& release) {
  releases_[KeyOf(release.request)] = release.request;
  SendRelease(release.request);
}

void SimulatedWorker::SendRelease(const v1::ReleaseTaskRequest& request) {
  const LeaseKey lease = KeyOf(request);
  if (!releases_.contains(lease) ||
      WaitsForThaw([this, request] { SendRelease(request); })) {
    return;
  }
  network_.Send(
      options_.node, kCoordinator, [this, life = life_, lease, request] {
        coordinator_.CallWith<v1::ReleaseTaskResponse>(
            token(), options_.node, request,
            [this, life,
             lease](const absl::StatusOr<v1::ReleaseTaskResponse>& response) {
              if (life == life_ && !absl::IsUnavailable(response.status()) &&
                  releases_.erase(lease) > 0) {
                Feed(event::ReleaseAnswered{lease});
              }
            });
      });
  Later(kCallDeadline, [this, request] { SendRelease(request); });
}

void SimulatedWorker::Do(const action::Exit& exit) {
  trace_.Line(options_.name, " ends: ", exit.status.ToString());
  if (absl::IsUnauthenticated(exit.status)) {
    Replace();
  }
  End(true);
}

std::optional<TokenId> SimulatedWorker::RevocableToken() const {
  return tokens_.size() > 1 ? std::optional(tokens_.front().id) : std::nullopt;
}

void SimulatedWorker::Replace() {
  counts_.faults.Add("revoked worker replaced");
  counts_.faults.Add("results of a revoked worker",
                     static_cast<int64_t>(spool_.size()));
  tokens_.erase(tokens_.begin());
  spool_.clear();
  models_.clear();
  uuid_ = *WorkerUuid::FromBytes(
      Digest::Of(absl::StrCat(random_.Next())).bytes().substr(0, 16));
  boot_seq_ = 0;
}

void SimulatedWorker::Do(const action::Note& note) {
  trace_.Line(options_.name, " ", note.text);
}

}  // namespace qsweep::sim
