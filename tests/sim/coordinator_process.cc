#include "tests/sim/coordinator_process.h"

#include <algorithm>
#include <type_traits>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "coordinator/core/token.h"
#include "coordinator/store/sqlite_store.h"

namespace qsweep::sim {
namespace {

constexpr char kDirectory[] = "/coordinator";
constexpr int64_t kReserveBytes = int64_t{1} << 20;
// What the time of 2,000 seeds allows (docs/adr/0034): all of State; and beside
// it what a reload would find.
constexpr int64_t kCommitsPerCheck = 32;
constexpr int64_t kCommitsPerReload = 256;

class MemoryReserve : public Reserve {
 public:
  explicit MemoryReserve(MemoryVfs& disk) : disk_(disk) {}
  bool Take() override { return disk_.TakeReserve(kReserveBytes); }
  void Free() override { disk_.FreeReserve(); }

 private:
  MemoryVfs& disk_;
};

absl::string_view DeathName(DeathPoint point) {
  switch (point) {
    case DeathPoint::kBetweenSteps:
      return "between steps";
    case DeathPoint::kBeforeCommit:
      return "before commit";
    case DeathPoint::kInCommit:
      return "in commit";
    case DeathPoint::kAfterCommit:
      return "after commit";
    case DeathPoint::kAmidReplies:
      return "amid replies";
    case DeathPoint::kAtStart:
      return "at start";
  }
  return "";
}

}  // namespace

// The real store, watched; and the places where its process may die.
class CoordinatorProcess::ObservedStore : public testing::FaultyStore {
 public:
  ObservedStore(std::unique_ptr<Store> store, CoordinatorProcess& process)
      : FaultyStore(std::move(store)), process_(process) {}

  absl::StatusOr<StateSnapshot> Load() override {
    auto snapshot = FaultyStore::Load();
    if (snapshot.ok() && !process_.doomed_) {
      process_.oracles_.OnLoaded(*snapshot);
    }
    return snapshot;
  }
  absl::Status Commit(std::span<const Mutation> batch) override {
    QSWEEP_RETURN_IF_ERROR(process_.BeforeCommit(batch));
    const absl::Status status = FaultyStore::Commit(batch);
    process_.AfterCommit(batch, status);
    return status;
  }
  absl::Status RestoreReserve() override {
    const absl::Status status = FaultyStore::RestoreReserve();
    process_.disk_full_ &= !status.ok();
    return status;
  }
  absl::StatusOr<StateSnapshot> LoadUnseen() { return FaultyStore::Load(); }

 private:
  CoordinatorProcess& process_;
};

class CoordinatorProcess::Link : public WorkerLink {
 public:
  Link(CoordinatorProcess& process, std::shared_ptr<Stream> stream)
      : process_(process), stream_(std::move(stream)), life_(process.life_) {}

  void Send(v1::DesiredState state) override {
    if (!Alive()) {
      return;
    }
    process_.oracles_.OnDesired(stream_->number, state);
    process_.network_.Send(
        kCoordinator, stream_->worker,
        [stream = stream_, state = std::move(state)] {
          stream->on_state(state);
        },
        process_.SyncDelay());
  }
  void Close(absl::Status status) override {
    if (!Alive()) {
      return;
    }
    process_.network_.Send(
        kCoordinator, stream_->worker,
        [stream = stream_, status] { stream->on_closed(status); },
        process_.SyncDelay());
    process_.schedule_.After(
        absl::Milliseconds(1),
        [process = &process_, life = life_, stream = stream_] {
          if (process->life_ == life) {
            process->Hangup(stream);
          }
        });
  }
  const std::shared_ptr<Stream>& stream() const { return stream_; }

 private:
  bool Alive() { return process_.life_ == life_ && process_.Speaks(); }

  CoordinatorProcess& process_;
  const std::shared_ptr<Stream> stream_;
  const uint64_t life_;
};

CoordinatorProcess::CoordinatorProcess(Schedule& schedule, Network& network,
                                       Random& random, Counts& counts,
                                       Trace& trace, Oracles& oracles,
                                       const Settings& settings)
    : schedule_(schedule),
      network_(network),
      random_(random),
      counts_(counts),
      trace_(trace),
      oracles_(oracles),
      settings_(settings),
      disk_(random.Next()) {}

CoordinatorProcess::~CoordinatorProcess() { Destroy(); }

void CoordinatorProcess::Destroy() {
  doomed_ = true;
  loop_.reset();
}

testing::FaultyStore& CoordinatorProcess::store() { return *store_; }

void CoordinatorProcess::Start() {
  QSWEEP_CHECK(loop_ == nullptr);
  ++life_;
  doomed_ = false;
  disk_.StartProcess();
  if (death_at_start_) {
    death_at_start_ = false;
    death_ = DeathPoint::kAtStart;
    power_cut_ = true;
    disk_.KillAfter(1 + static_cast<int>(random_.Below(8)),
                    [this] { DieOnDisk(); });
  }
  const absl::Status status = OpenLoop();
  if (death_ && !doomed_) {  // there was less to do than that
    disk_.KillAfter(0, nullptr);
    death_.reset();
  }
  if (doomed_ || !status.ok()) {
    trace_.Line("coordinator does not start: ", status.ToString());
    if (!doomed_) {
      counts_.faults.Add("start refused");
    }
    Die();
    return;
  }
  trace_.Line("coordinator started, epoch ",
              loop_->state().coordinator_epoch());
  WakeAt(schedule_.now());
}

absl::Status CoordinatorProcess::OpenLoop() {
  QSWEEP_ASSIGN_OR_RETURN(
      auto store,
      OpenSqliteStore({.directory = kDirectory,
                       .vfs = disk_.name(),
                       .reserve = std::make_unique<MemoryReserve>(disk_),
                       .check_pages = std::exchange(check_pages_, false)}));
  auto observed = std::make_unique<ObservedStore>(std::move(store), *this);
  store_ = observed.get();
  loop_ = std::make_unique<Loop>(std::move(observed), settings_,
                                 schedule_.clock(), random_.Next());
  return loop_->Start();
}

bool CoordinatorProcess::Speaks() {
  if (doomed_) {
    return false;
  }
  if (death_ == DeathPoint::kAmidReplies && replies_left_-- == 0) {
    doomed_ = true;
    disk_.KillProcess();
  }
  return !doomed_;
}

absl::Duration CoordinatorProcess::SyncDelay() const {
  return sync_time_ * (disk_.num_syncs() - syncs_before_);
}

void CoordinatorProcess::WakeSoon() {
  WakeAt(schedule_.now() +
         absl::Microseconds(static_cast<int64_t>(random_.Below(20'000))));
}

void CoordinatorProcess::WakeAt(SteadyTime time) {
  time = std::max({time, busy_until_, schedule_.now()});
  if (time >= wake_at_) {
    return;
  }
  wake_at_ = time;
  schedule_.At(time, [this, life = life_, time] {
    if (life == life_ && loop_ != nullptr && wake_at_ == time) {
      Step();
    }
  });
}

void CoordinatorProcess::Step() {
  wake_at_ = SteadyTime::InfiniteFuture();
  syncs_before_ = disk_.num_syncs();
  if (death_ == DeathPoint::kAmidReplies) {
    replies_left_ = static_cast<int>(random_.Below(3));
  }
  const absl::Status status = loop_->Step(schedule_.now());
  busy_until_ = schedule_.now() + SyncDelay();
  if (!status.ok() && !doomed_) {
    trace_.Line("coordinator gives up: ", status.ToString());
    counts_.faults.Add("coordinator gave up");
    // Power that goes in the recovery from a failed sync may damage the file:
    // two faults at once that nothing survives.
    death_at_start_ = false;
    loop_->End(status);
  }
  if (doomed_ || !status.ok()) {
    Die();
    return;
  }
  oracles_.AfterStep(loop_->state(), disk_full_);
  if (commits_ - checked_commits_ >= kCommitsPerCheck) {
    checked_commits_ = commits_;
    oracles_.CheckAll(loop_->state());
  }
  if (commits_ - reloaded_commits_ >= kCommitsPerReload) {
    reloaded_commits_ = commits_;
    CheckReload();
  }
  if (death_ == DeathPoint::kBetweenSteps) {
    Die();
    return;
  }
  WakeAt(loop_->NextDeadline());
}

void CoordinatorProcess::CheckReload() {
  if (const auto snapshot = store_->LoadUnseen(); snapshot.ok()) {
    oracles_.CheckReload(*snapshot);
  }
}

void CoordinatorProcess::Drain() {
  trace_.Line("coordinator drained");
  counts_.faults.Add("coordinator drained");
  syncs_before_ = disk_.num_syncs();
  loop_->Stop();
  loop_->Run().IgnoreError();
  if (!doomed_) {
    death_.reset();
    doomed_ = true;  // it has said all
    loop_.reset();   // closes its files as it does at the end of main
  }
  Die();
}

void CoordinatorProcess::PlanDeath(DeathPoint point, bool power_cut) {
  if (!up() || death_) {
    return;
  }
  death_at_start_ = point == DeathPoint::kAtStart;
  death_ = death_at_start_ ? DeathPoint::kBetweenSteps : point;
  power_cut_ = power_cut;
  if (point == DeathPoint::kInCommit) {
    disk_.KillAfter(1 + static_cast<int>(random_.Below(30)),
                    [this] { DieOnDisk(); });
  } else if (death_ == DeathPoint::kBetweenSteps) {
    WakeSoon();
  }
}

void CoordinatorProcess::DieOnDisk() { doomed_ = true; }

void CoordinatorProcess::Die() {
  if (death_) {
    counts_.faults.Add(absl::StrCat("death ", DeathName(*death_)));
    counts_.faults.Add(power_cut_ ? "power cut" : "coordinator killed");
    trace_.Line("coordinator dies ", DeathName(*death_),
                power_cut_ ? ", power cut" : "");
  }
  doomed_ = true;
  disk_.KillProcess();
  loop_.reset();
  store_ = nullptr;
  if (power_cut_) {
    disk_.CutPower();
    check_pages_ = true;
  }
  // A machine without power does not say that its connections end.
  for (const auto& [number, link] : links_) {
    const std::shared_ptr<Stream>& stream = link->stream();
    if (!power_cut_) {
      network_.Send(kCoordinator, stream->worker, [stream] {
        stream->on_closed(absl::UnavailableError("connection reset"));
      });
    }
  }
  links_.clear();
  network_.NewLife(kCoordinator);
  ++life_;
  wake_at_ = SteadyTime::InfiniteFuture();
  death_.reset();
  power_cut_ = false;
  disk_full_ = false;
  const bool long_outage = random_.Below(10) == 0;
  schedule_.After(absl::Milliseconds(static_cast<int64_t>(
                      500 + random_.Below(long_outage ? 100'000 : 5'000))),
                  [this] { Start(); });
}

absl::Status CoordinatorProcess::BeforeCommit(std::span<const Mutation> batch) {
  if (death_ == DeathPoint::kBeforeCommit) {
    doomed_ = true;
    disk_.KillProcess();
    return absl::UnavailableError("the process has died");
  }
  for (const Mutation& mutation : batch) {
    const auto* job = std::get_if<JobAdded>(&mutation);
    if (job != nullptr && job->spec->name() == kUnstorable && !doomed_) {
      counts_.faults.Add("request the database cannot take");
      return absl::InternalError("constraint failed");
    }
  }
  return absl::OkStatus();
}

void CoordinatorProcess::TraceCommit(std::span<const Mutation> batch) {
  trace_.Line("commit of ", batch.size(), " mutations");
  for (const Mutation& mutation : batch) {
    if (const auto* granted = std::get_if<LeaseGranted>(&mutation)) {
      trace_.Line("  task ", granted->task.value(), " epoch ",
                  granted->epoch.value(), " granted for job ",
                  granted->job.value(), " to ", granted->worker.text());
    } else if (const auto* ended = std::get_if<LeaseEnded>(&mutation)) {
      trace_.Line("  task ", ended->task.value(), " epoch ",
                  ended->epoch.value(), " ", LeaseEndName(ended->end), ": ",
                  ended->reason);
    } else if (const auto* result = std::get_if<ResultCommitted>(&mutation)) {
      trace_.Line("  task ", result->task.value(), " epoch ",
                  result->epoch.value(), " done");
    } else if (const auto* job = std::get_if<JobStateChanged>(&mutation)) {
      trace_.Line("  job ", job->job.value(), " ",
                  v1::JobState_Name(job->state));
    }
  }
}

void CoordinatorProcess::AfterCommit(std::span<const Mutation> batch,
                                     const absl::Status& status) {
  if (status.ok() && !doomed_) {
    ++commits_;
    oracles_.OnCommitted(batch);
    if (trace_.wanted()) {
      TraceCommit(batch);
    }
  } else if (absl::IsResourceExhausted(status) && !doomed_) {
    disk_full_ = true;
    counts_.faults.Add("disk full met");
  } else if (!absl::IsInternal(status)) {
    oracles_.OnUnknownCommit(batch);
  }
  if (status.ok() && death_ == DeathPoint::kAfterCommit) {
    doomed_ = true;
    disk_.KillProcess();
  }
}

absl::StatusOr<Caller> CoordinatorProcess::Authenticate(
    const std::optional<AccessTokenText>& token) const {
  if (!token) {
    return Caller{};
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const Token known,
      loop_->tokens().Authenticate(*token, schedule_.clock().Now()));
  return Caller{.identity = IdentityOfToken(known.id), .secret = known.secret};
}

absl::StatusOr<Caller> CoordinatorProcess::CallerOf(
    const std::shared_ptr<Stream>& stream) {
  absl::StatusOr<Caller> caller =
      loop_ == nullptr ? absl::UnavailableError("connection refused")
                       : Authenticate(stream->token);
  if (!caller.ok()) {
    network_.Send(kCoordinator, stream->worker,
                  [stream, caller] { stream->on_closed(caller.status()); });
  }
  return caller;
}

void CoordinatorProcess::Hello(std::shared_ptr<Stream> stream,
                               v1::WorkerState state) {
  const absl::StatusOr<Caller> caller = CallerOf(stream);
  if (!caller.ok()) {
    return;
  }
  oracles_.OnReport(stream->number, stream->uuid, state);
  auto link = std::make_shared<Link>(*this, stream);
  links_[stream->number] = link;
  stream->caller = *caller;
  loop_->PostAttach(*caller, std::move(state), link);
  WakeSoon();
}

void CoordinatorProcess::Beat(const std::shared_ptr<Stream>& stream,
                              v1::WorkerState state) {
  const auto it = links_.find(stream->number);
  if (it == links_.end()) {
    network_.Send(kCoordinator, stream->worker, [stream] {
      stream->on_closed(absl::UnavailableError("connection reset"));
    });
    return;
  }
  oracles_.OnReport(stream->number, stream->uuid, state);
  loop_->PostAttach(stream->caller, std::move(state), it->second);
  WakeSoon();
}

void CoordinatorProcess::Hangup(const std::shared_ptr<Stream>& stream) {
  const auto it = links_.find(stream->number);
  if (it != links_.end()) {
    loop_->PostDetach(it->second);
    links_.erase(it);
    WakeSoon();
  }
}

void CoordinatorProcess::Poll(const std::shared_ptr<Stream>& stream,
                              v1::WorkerState state) {
  const absl::StatusOr<Caller> caller = CallerOf(stream);
  if (!caller.ok()) {
    return;
  }
  oracles_.OnReport(stream->number, stream->uuid, state);
  loop_->Post(*caller, std::move(state),
              [this, stream, life = life_](absl::StatusOr<v1::DesiredState> r) {
                if (life != life_ || !Speaks()) {
                  return;
                }
                if (r.ok()) {
                  oracles_.OnDesired(stream->number, *r);
                  network_.Send(
                      kCoordinator, stream->worker,
                      [stream, r] { stream->on_state(*r); }, SyncDelay());
                } else if (!absl::IsAborted(r.status()) ||
                           GetErrorInfo(r.status())) {  // not a newer poll
                  network_.Send(
                      kCoordinator, stream->worker,
                      [stream, r] { stream->on_closed(r.status()); },
                      SyncDelay());
                }
              });
  WakeSoon();
}

void CoordinatorProcess::PutArtifact(Node from, const Digest& digest,
                                     std::string bytes,
                                     Reply<v1::PutArtifactResponse> answer) {
  if (loop_ == nullptr) {
    return Refuse<v1::PutArtifactResponse>(
        from, std::move(answer), absl::UnavailableError("connection refused"));
  }
  loop_->PostArtifact(
      digest, std::move(bytes),
      MakeReply<v1::PutArtifactResponse>(from, std::move(answer)));
  WakeSoon();
}

void CoordinatorProcess::Watch(v1::WatchJobRequest request,
                               std::shared_ptr<WatchSink> sink) {
  if (loop_ == nullptr) {
    sink->Close(absl::UnavailableError("connection refused"));
    return;
  }
  loop_->PostWatch(Caller{}, std::move(request), std::move(sink));
  WakeSoon();
}

void CoordinatorProcess::TellOfRoom() {
  if (loop_ != nullptr) {
    loop_->PostRoom();
    WakeSoon();
  }
}

}  // namespace qsweep::sim
