#include "tests/sim/chaos.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "tests/support/sweep_requests.h"

namespace qsweep::sim {

// Weights are shares of all faults.
const Chaos::Fault Chaos::kFaults[] = {
    {12, &Chaos::KillCoordinator}, {5, &Chaos::CutPower},
    {2, &Chaos::KillInRecovery},   {2, &Chaos::DrainCoordinator},
    {6, &Chaos::FailCommit},       {3, &Chaos::FailDisk},
    {3, &Chaos::FillDisk},         {3, &Chaos::SlowDisk},
    {10, &Chaos::KillWorker},      {8, &Chaos::PreemptWorker},
    {8, &Chaos::FreezeWorker},     {10, &Chaos::CutNetwork},
    {3, &Chaos::StartClone},       {4, &Chaos::ForgeResult},
    {6, &Chaos::JumpClock},        {3, &Chaos::CancelJob},
    {4, &Chaos::ControlJob},       {3, &Chaos::ControlWorker},
    {6, &Chaos::DisturbClient},    {4, &Chaos::SubmitUnstorable},
    {2, &Chaos::CollectGarbage},   {2, &Chaos::RevokeWorker},
};

Chaos::Chaos(Schedule& schedule, Network& network, Random& random,
             Counts& counts, Trace& trace, CoordinatorProcess& coordinator,
             Workers& workers, std::unique_ptr<SimulatedWorker>& clone,
             Clients& clients)
    : schedule_(schedule),
      network_(network),
      random_(random),
      counts_(counts),
      trace_(trace),
      coordinator_(coordinator),
      workers_(workers),
      clone_(clone),
      clients_(clients) {}

absl::Duration Chaos::UpTo(absl::Duration most) {
  return absl::Trunc(most * random_.Uniform(), absl::Microseconds(1));
}

SimulatedWorker& Chaos::SomeWorker() {
  return *workers_[random_.Below(workers_.size())];
}

SimulatedClient& Chaos::SomeClient() {
  return *clients_[random_.Below(clients_.size())];
}

void Chaos::Start() { Next(); }

void Chaos::Next() {
  schedule_.After(UpTo(absl::Seconds(20)), [this] {
    if (stopped_) {
      return;
    }
    int total = 0;
    for (const Fault& fault : kFaults) {
      total += fault.weight;
    }
    auto pick = static_cast<int>(random_.Below(static_cast<uint64_t>(total)));
    for (const Fault& fault : kFaults) {
      pick -= fault.weight;
      if (pick < 0) {
        (this->*fault.act)();
        break;
      }
    }
    Next();
  });
}

void Chaos::KillCoordinator() {
  constexpr DeathPoint kPoints[] = {
      DeathPoint::kBetweenSteps, DeathPoint::kBeforeCommit,
      DeathPoint::kInCommit, DeathPoint::kAfterCommit,
      DeathPoint::kAmidReplies};
  coordinator_.PlanDeath(kPoints[random_.Below(5)], false);
}

void Chaos::CutPower() {
  constexpr DeathPoint kPoints[] = {
      DeathPoint::kBetweenSteps, DeathPoint::kBeforeCommit,
      DeathPoint::kInCommit, DeathPoint::kAfterCommit,
      DeathPoint::kAmidReplies};
  coordinator_.PlanDeath(kPoints[random_.Below(5)], true);
}

void Chaos::KillInRecovery() {
  coordinator_.PlanDeath(DeathPoint::kAtStart, Chance(0.5));
}

void Chaos::DrainCoordinator() {
  if (coordinator_.up()) {
    coordinator_.Drain();
  }
}

void Chaos::FailCommit() {
  using StoreFault = testing::FaultyStore::Fault;
  if (!coordinator_.up()) {
    return;
  }
  const bool written = Chance(0.5);
  counts_.faults.Add(written ? "commit written, error said"
                             : "commit fails, nothing written");
  trace_.Line("the next commit fails", written ? " and is written" : "");
  coordinator_.store().FailNext(
      written ? StoreFault::kAfterCommit : StoreFault::kBeforeCommit,
      absl::UnavailableError("COMMIT"));
}

void Chaos::FailDisk() {
  constexpr std::pair<MemoryVfs::Fault, const char*> kKinds[] = {
      {MemoryVfs::Fault::kSyncError, "sync error"},
      {MemoryVfs::Fault::kWriteError, "write error"},
      {MemoryVfs::Fault::kShortWrite, "short write"},
      {MemoryVfs::Fault::kReadError, "read error"}};
  const auto& [fault, name] = kKinds[random_.Below(4)];
  if (coordinator_.up()) {
    counts_.faults.Add(name);
    trace_.Line("disk: next ", name);
    coordinator_.disk().FailNext(fault);
  }
}

void Chaos::FillDisk() {
  counts_.faults.Add("disk filled");
  const int64_t used = coordinator_.disk().bytes_used();
  trace_.Line("disk full above ", used, " bytes");
  coordinator_.disk().set_capacity(
      used + static_cast<int64_t>(random_.Below(100'000)));
  schedule_.After(absl::Seconds(5) + UpTo(absl::Seconds(40)), [this] {
    trace_.Line("disk has room");
    coordinator_.disk().set_capacity(int64_t{1} << 40);
  });
}

void Chaos::SlowDisk() {
  counts_.faults.Add("slow sync");
  const absl::Duration time = UpTo(absl::Milliseconds(500));
  trace_.Line("each sync takes ", absl::FormatDuration(time));
  coordinator_.set_sync_time(time);
  schedule_.After(UpTo(absl::Seconds(30)), [this] {
    coordinator_.set_sync_time(absl::Milliseconds(1));
  });
}

void Chaos::KillWorker() {
  const bool machine = Chance(0.3);
  counts_.faults.Add(machine ? "worker machine lost" : "worker killed");
  SomeWorker().Kill(machine);
}

void Chaos::PreemptWorker() {
  counts_.faults.Add("worker preempted");
  SomeWorker().Shutdown();
}

void Chaos::FreezeWorker() {
  const bool beyond_ttl = Chance(0.5);
  counts_.faults.Add(beyond_ttl ? "worker frozen beyond its leases"
                                : "worker frozen");
  SomeWorker().Freeze(beyond_ttl ? absl::Seconds(65) + UpTo(absl::Seconds(100))
                                 : UpTo(absl::Seconds(60)));
}

void Chaos::CutNetwork() {
  const Node node = Chance(0.15)
                        ? kCoordinator
                        : 1 + static_cast<Node>(random_.Below(workers_.size()));
  const absl::Duration duration =
      node == kCoordinator ? UpTo(absl::Seconds(40))
                           : UpTo(absl::Seconds(Chance(0.5) ? 30 : 150));
  const uint64_t kind = random_.Below(3);
  constexpr const char* kNames[] = {"partition", "partition, out only",
                                    "partition, in only"};
  counts_.faults.Add(kNames[kind]);
  trace_.Line(kNames[kind], " of node ", node, " for ",
              absl::FormatDuration(duration));
  if (kind != 2) {
    network_.CutFrom(node, duration);
  }
  if (kind != 1) {
    network_.CutTo(node, duration);
  }
}

void Chaos::StartClone() {
  if (!clone_->up()) {
    counts_.faults.Add("worker_uuid used twice");
    clone_->CloneFrom(SomeWorker());
    clone_->Start();
  }
}

void Chaos::ForgeResult() { SomeWorker().SendForgery(); }

void Chaos::JumpClock() {
  if (Chance(0.3)) {
    counts_.faults.Add("wall clock drifts");
    schedule_.clock().SetWallDrift(random_.Uniform() * 0.1 - 0.05);
    return;
  }
  counts_.faults.Add("wall clock jumps");
  const absl::Duration year = absl::Hours(24 * 365);
  const absl::Duration jump = UpTo(2 * year) - year;
  trace_.Line("wall clock jumps by ", absl::FormatDuration(jump));
  schedule_.clock().JumpWall(jump);
}

// Rather one with tasks in BACKOFF, which few have for long.
void Chaos::CancelJob() {
  if (coordinator_.up() && Chance(0.5)) {
    for (const auto& [number, job] : coordinator_.state().jobs()) {
      if (job.num_tasks(v1::TASK_STATE_BACKOFF) > 0 &&
          std::ranges::any_of(clients_, [number = number](const auto& client) {
            return client->Cancel(number);
          })) {
        return;
      }
    }
  }
  SomeClient().CancelSome();
}

void Chaos::ControlJob() {
  if (!coordinator_.up() || coordinator_.state().jobs().empty()) {
    return;
  }
  const auto& jobs = coordinator_.state().jobs();
  auto it = jobs.begin();
  std::advance(it, static_cast<ptrdiff_t>(random_.Below(jobs.size())));
  const auto& [number, job] = *it;
  constexpr v1::JobAction kActions[] = {
      v1::JOB_ACTION_PAUSE, v1::JOB_ACTION_RESUME, v1::JOB_ACTION_STOP,
      v1::JOB_ACTION_PRIORITY};
  const bool again =
      job.state == v1::JOB_STATE_FAILED || job.state == v1::JOB_STATE_CANCELLED;
  const v1::JobAction action =
      again ? v1::JOB_ACTION_RETRY : kActions[random_.Below(4)];
  counts_.faults.Add(v1::JobAction_Name(action));
  SomeClient().ControlJob(number, action, static_cast<int>(random_.Below(3)));
}

void Chaos::ControlWorker() {
  if (coordinator_.up() && !coordinator_.state().workers().empty()) {
    const auto& workers = coordinator_.state().workers();
    auto it = workers.begin();
    std::advance(it, static_cast<ptrdiff_t>(random_.Below(workers.size())));
    const bool drain = Chance(0.6);
    counts_.faults.Add(drain ? "worker drained" : "worker resumed");
    SomeClient().ControlWorker(
        it->first, drain ? v1::WORKER_ACTION_DRAIN : v1::WORKER_ACTION_RESUME);
  }
}

void Chaos::CollectGarbage() {
  counts_.faults.Add("garbage collected");
  SomeClient().CollectGarbage(Chance(0.5) ? absl::ZeroDuration()
                                          : UpTo(absl::Minutes(3)));
}

// The machine behind it is replaced by another with a token of its own.
void Chaos::RevokeWorker() {
  if (const auto token = SomeWorker().RevocableToken()) {
    counts_.faults.Add("token of a worker revoked");
    SomeClient().RevokeToken(*token);
  }
}

void Chaos::DisturbClient() {
  if (Chance(0.5)) {
    SomeClient().Stall(UpTo(absl::Seconds(20)));
  } else {
    counts_.faults.Add("watch broken");
    SomeClient().BreakWatches();
  }
}

// While syncs are slow, so that others are in its batch.
void Chaos::SubmitUnstorable() {
  SlowDisk();
  v1::SubmitJobRequest request =
      testing::SweepRequest({.uuid = absl::StrCat("bad", ++unstorable_)});
  request.mutable_spec()->set_name(CoordinatorProcess::kUnstorable);
  request.mutable_spec()->mutable_evals(0)->set_samples(1);  // planned at once
  schedule_.After(UpTo(absl::Seconds(5)),
                  [this, request] { SomeClient().Submit(request); });
}

}  // namespace qsweep::sim
