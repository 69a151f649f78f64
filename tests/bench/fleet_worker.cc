#include "tests/bench/fleet_worker.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include <grpcpp/client_context.h>

#include "common/base/digest.h"
#include "common/rpc/status_conversion.h"
#include "qsweep/v1/worker.grpc.pb.h"
#include "tests/bench/workload.h"

namespace qsweep::bench {
namespace {

constexpr absl::Duration kCallDeadline = absl::Seconds(30);
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

AgentSettings SettingsOf(int index, const Endpoint& endpoint) {
  const std::string name = absl::StrCat("bench-", index);
  const std::string seed = absl::StrCat(name, endpoint.token);
  AgentSettings settings;
  settings.hello.set_protocol_min(1);
  settings.hello.set_protocol_max(1);
  settings.hello.set_build_id("bench");
  settings.hello.set_worker_uuid(Digest::Of(seed).bytes().substr(0, 16));
  settings.hello.set_boot_id(Digest::Of(seed + "b").bytes().substr(0, 16));
  settings.hello.set_boot_seq(1);
  settings.hello.set_name(name);
  settings.seed = static_cast<uint64_t>(index) + 1;
  return settings;
}

LeaseKey KeyOf(const v1::ResultEnvelope& envelope) {
  return {TaskId(static_cast<int64_t>(envelope.task_id())),
          Epoch(static_cast<int64_t>(envelope.epoch()))};
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(Clock::Real().Now() + kCallDeadline));
}

}  // namespace

struct FleetWorker::Call {
  grpc::ClientContext context;
  v1::CommitResultRequest request;
  v1::CommitResultResponse response;
};

FleetWorker::FleetWorker(int index, const Endpoint& endpoint, Fleet& fleet)
    : fleet_(fleet),
      endpoint_(endpoint),
      core_(SettingsOf(index, endpoint)),
      links_({std::make_shared<const WorkerChannel>(endpoint)}) {}

SteadyTime FleetWorker::now() const { return Clock::Real().SteadyNow(); }

void FleetWorker::Start() { Feed(event::Started{}); }

void FleetWorker::End() {
  ended_ = true;
  stream_.reset();
  if (sending_ != nullptr) {
    sending_->context.TryCancel();
  }
}

void FleetWorker::Feed(AgentEvent event) {
  if (frozen_ || ended_) {
    return;
  }
  inbox_.push_back(std::move(event));
  if (stepping_) {
    return;  // an action of the step that runs
  }
  stepping_ = true;
  while (!inbox_.empty() && !ended_) {
    const AgentEvent next = std::move(inbox_.front());
    inbox_.pop_front();
    for (AgentAction& action : core_.Step(next, now())) {
      std::visit([this](auto& a) { Do(a); }, action);
    }
  }
  stepping_ = false;
  SendResults();
  ScheduleTick();
}

void FleetWorker::ScheduleTick() {
  const SteadyTime next = core_.NextTick();
  if (ended_ || next >= tick_at_) {
    return;
  }
  tick_at_ = next;
  fleet_.At(next, [this, next] {
    if (tick_at_ == next) {
      tick_at_ = SteadyTime::InfiniteFuture();
      Feed(event::Tick{});
    }
  });
}

void FleetWorker::Do(action::OpenStream& open) {
  // A channel that could not connect fails at once until its own back-off has
  // passed; the agent keeps one already.
  if (links_.back()->channel->GetState(false) ==
      GRPC_CHANNEL_TRANSIENT_FAILURE) {
    links_.push_back(std::make_shared<const WorkerChannel>(endpoint_));
  }
  if (std::exchange(attached_, false)) {
    MutexLock lock(fleet_.mutex_);
    --fleet_.counts_.attached;
  }
  waiting_state_.reset();
  const uint64_t number = open.stream;
  AttachCallbacks callbacks = {
      .on_state =
          [this, number](v1::DesiredState state) {
            auto shared = std::make_shared<v1::DesiredState>(std::move(state));
            fleet_.Post([this, number, shared, at = now()] {
              TakeState(number, std::move(*shared), at);
            });
          },
      .on_closed =
          [this, number](absl::Status why) {
            fleet_.Post([this, number, why = std::move(why)] {
              Feed(event::StreamClosed{number, why});
            });
          }};
  stream_.reset();
  stream_ = OpenStreamSession(links_.back(), open.first, std::move(callbacks),
                              *fleet_.sessions_);
}

void FleetWorker::TakeState(uint64_t stream, v1::DesiredState state,
                            SteadyTime at) {
  if (frozen_ || ended_) {
    return;
  }
  if (state.has_welcome()) {
    retry_at_ = SteadyTime();
    MutexLock lock(fleet_.mutex_);
    fleet_.counts_.attached += attached_ ? 0 : 1;
    fleet_.counts_.attaches += attached_ ? 0 : 1;
    attached_ = true;
  }
  received_at_ = at;
  Feed(event::StateReceived{stream, std::move(state)});
}

void FleetWorker::Do(action::SendState& send) {
  waiting_state_ = std::move(send.state);
  const SteadyTime due = state_sent_at_ + fleet_.options_.state_interval;
  if (waiting_state_->goodbye() || due <= now()) {
    FlushState();
  } else {
    fleet_.At(due, [this] { FlushState(); });
  }
}

void FleetWorker::FlushState() {
  if (waiting_state_ && stream_ != nullptr && !frozen_) {
    state_sent_at_ = now();
    stream_->Send(*std::exchange(waiting_state_, std::nullopt));
  }
}

void FleetWorker::Do(action::Fetch& fetch) {
  const SteadyTime at = received_at_;
  {
    MutexLock lock(fleet_.mutex_);
    FleetCounts& counts = fleet_.counts_;
    if (counts.leases++ == 0) {
      counts.first_lease = at;
    }
    counts.last_lease = at;
    if (!freed_.empty()) {
      counts.result_to_lease.Add(at - freed_.front());
      freed_.pop_front();
    }
  }
  auto run = std::make_shared<v1::EngineRun>();
  *run->mutable_task() = std::move(fetch.spec);
  Feed(event::Fetched{fetch.task, fetch.grant, std::move(run)});
}

void FleetWorker::Do(action::StartEngine&) {
  event::EngineBecameReady became;
  became.ready.set_fingerprint("bench engine");
  became.ready.set_device("cpu");
  became.ready.set_memory_bytes(uint64_t{64} << 30);
  became.ready.set_gflops(kGflops);
  became.ready.add_evaluations("aligned@1");
  became.ready.add_methods("rtn");
  Feed(std::move(became));
}

void FleetWorker::Do(action::Run& run) {
  const uint64_t number = ++runs_;
  const auto shared = run.run;
  {
    const TaskId task(static_cast<int64_t>(shared->task().task_id()));
    MutexLock lock(fleet_.mutex_);
    fleet_.counts_.reruns += fleet_.finished_.contains(task) ? 1 : 0;
  }
  if (fleet_.options_.task_time <= absl::ZeroDuration()) {
    FinishRun(number, shared->task());
    return;
  }
  event::EngineProgressed progressed;
  progressed.progress.set_task_id(shared->task().task_id());
  progressed.progress.mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
  Feed(std::move(progressed));
  fleet_.At(now() + fleet_.options_.task_time,
            [this, number, shared] { FinishRun(number, shared->task()); });
}

void FleetWorker::FinishRun(uint64_t run, const v1::TaskSpec& spec) {
  if (run != runs_ || frozen_ || ended_) {
    return;
  }
  fleet_.finished_.insert(TaskId(static_cast<int64_t>(spec.task_id())));
  {
    MutexLock lock(fleet_.mutex_);
    ++fleet_.counts_.runs_finished;
  }
  event::EngineFinished finished;
  finished.done.set_task_id(spec.task_id());
  *finished.done.mutable_result() = MakeResult(spec);
  Feed(std::move(finished));
}

void FleetWorker::Do(action::CancelRun& cancel) {
  ++runs_;
  event::EngineRefused refused;
  refused.failed.set_task_id(static_cast<uint64_t>(cancel.task.value()));
  Feed(std::move(refused));
}

void FleetWorker::Do(action::KillEngine&) {
  ++runs_;
  Feed(event::EngineExited{absl::UnavailableError("killed")});
}

void FleetWorker::Do(action::SpoolResult& spool) {
  unsent_.push_back(std::move(spool.envelope));
  Feed(event::ResultSpooled{spool.lease});
}

// All that waits goes in one call, as the product's sender does it.
void FleetWorker::SendResults() {
  if (ended_ || frozen_ || sending_ != nullptr || unsent_.empty() ||
      now() < retry_at_) {
    return;
  }
  auto call = std::make_shared<Call>();
  for (v1::ResultEnvelope& envelope : unsent_) {
    *call->request.add_results() = std::move(envelope);
    freed_.push_back(now());
  }
  unsent_.clear();
  AddToken(endpoint_, call->context);
  SetDeadline(call->context);
  sending_ = call;
  fleet_.sessions_->Begin();
  links_.back()->stub->async()->CommitResult(
      &call->context, &call->request, &call->response,
      [this, call,
       &sessions = *fleet_.sessions_](const grpc::Status& status) mutable {
        fleet_.Post(
            [this, call = std::move(call), status = FromGrpcStatus(status)] {
              TakeAnswer(call, status);
            });
        sessions.End();  // the fleet may end: nothing of the call is ours now
      });
}

void FleetWorker::TakeAnswer(const std::shared_ptr<Call>& call,
                             const absl::Status& status) {
  sending_ = nullptr;
  if (!status.ok()) {
    unsent_.insert(unsent_.begin(), call->request.results().begin(),
                   call->request.results().end());
    freed_.clear();  // a call that failed says nothing about the next lease
    retry_at_ = now() + kRetryAfter;
    fleet_.At(retry_at_, [this] { SendResults(); });
    return;
  }
  {
    MutexLock lock(fleet_.mutex_);
    FleetCounts& counts = fleet_.counts_;
    for (const auto& one : call->response.results()) {
      if (one.outcome() == v1::COMMIT_OUTCOME_OK ||
          one.outcome() == v1::COMMIT_OUTCOME_ALREADY_COMMITTED) {
        ++counts.results;
      } else if (counts.results_other++ == 0) {
        counts.first_other = one.ShortDebugString();
      }
    }
    counts.last_result = now();
  }
  for (int i = 0; i < call->response.results_size(); ++i) {
    const auto& one = call->response.results(i);
    Feed(event::ResultAnswered{KeyOf(call->request.results(i)), one.outcome(),
                               one.failure()});
  }
  SendResults();
}

void FleetWorker::Do(action::Release& release) {
  unreleased_.push_back(std::move(release.request));
  SendReleases();
}

void FleetWorker::SendReleases() {
  if (releasing_ || unreleased_.empty()) {
    return;
  }
  struct ReleaseCall {
    grpc::ClientContext context;
    v1::ReleaseTaskRequest request;
    v1::ReleaseTaskResponse response;
  };
  releasing_ = true;
  auto call = std::make_shared<ReleaseCall>();
  call->request = std::move(unreleased_.front());
  unreleased_.pop_front();
  AddToken(endpoint_, call->context);
  SetDeadline(call->context);
  fleet_.sessions_->Begin();
  links_.back()->stub->async()->ReleaseTask(
      &call->context, &call->request, &call->response,
      [this, call, &sessions = *fleet_.sessions_](const grpc::Status&) mutable {
        fleet_.Post([this, call = std::move(call)] {
          releasing_ = false;
          const LeaseKey lease = {
              TaskId(static_cast<int64_t>(call->request.task_id())),
              Epoch(static_cast<int64_t>(call->request.epoch()))};
          Feed(event::ReleaseAnswered{lease});
          SendReleases();
        });
        sessions.End();
      });
}

void FleetWorker::Do(action::Exit&) {
  stream_.reset();
  ended_ = true;
}

}  // namespace qsweep::bench
