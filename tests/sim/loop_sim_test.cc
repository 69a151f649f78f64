// The real loop, core and SQLite under a virtual clock, with workers as small
// state machines and a network that loses, repeats and delays. Each seed has
// two phases: faults, then none until every job has ended. One seed, one run:
// a failure names its seed.
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "common/base/check.h"
#include "common/base/random.h"
#include "coordinator/core/commit.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/state_builder.h"

// No power is cut here, so syncing would only cost time: what SQLite and the
// store call, it finds here first.
extern "C" int fsync(int) { return 0; }
extern "C" int fdatasync(int) { return 0; }

namespace qsweep::testing {
namespace {

constexpr int kSeeds = QSWEEP_SIM_SEEDS;  // the build says how many
constexpr int kWorkers = 3;
constexpr int kJobs = 3;
constexpr int kFaultySteps = 60;
constexpr int kStepsMax = 4000;  // of the phase without faults
constexpr int kStepsAfter = 60;  // results of cut-off workers still come in
constexpr int kUnits = 3;

bool Chance(Random& random, double probability) {
  return random.Uniform() < probability;
}

absl::Duration Seconds(Random& random, double most) {
  return absl::Milliseconds(
      static_cast<int64_t>(random.Uniform() * most * 1e3));
}

// What the seeds met, all together: a run that met nothing proves nothing.
struct Met {
  std::map<LeaseEnd, int> ends;
  std::map<v1::CommitOutcome, int> outcomes;
  int restarts = 0;
  int64_t documents_skipped = 0;
};

// An honest result; under some configurations some documents have no sums.
v1::TaskResult ResultOf(const v1::TaskSpec& spec) {
  v1::TaskResult result = HonestResult(spec);
  for (v1::Measurement& row : *result.mutable_rows()) {
    const auto c = static_cast<int>(row.configuration_index());
    const auto d = static_cast<int>(row.document_index());
    if ((spec.configurations(c).digest()[0] + spec.documents(d).digest()[0]) %
            4 ==
        0) {
      row.Clear();
      row.set_configuration_index(static_cast<uint32_t>(c));
      row.set_document_index(static_cast<uint32_t>(d));
      row.set_status(v1::ROW_STATUS_ONE_TOKEN);
    }
  }
  return result;
}

// What a worker has been told, and does. Its spool and boot_seq survive a
// crash, nothing else does.
class SimulatedWorker {
 public:
  SimulatedWorker(std::string name, LoopHarness& harness, Random& random,
                  Met& met)
      : name_(std::move(name)), harness_(harness), random_(random), met_(met) {}

  bool faulty = true;  // the network and the machine

  void Crash() {
    ++boot_seq_;
    held_.clear();
    Disconnect();
  }
  void Freeze(absl::Duration duration) {
    frozen_until_ = harness_.clock().SteadyNow() + duration;
  }
  // Computes on, and finds out later what was decided without it.
  void Partition(absl::Duration duration) {
    partitioned_until_ = harness_.clock().SteadyNow() + duration;
  }
  // The stream breaks; the coordinator hears of it unless that is lost too.
  void Disconnect() {
    if (link_ != nullptr) {
      harness_.loop().PostDetach(link_);
    }
    Forget();
  }
  // The coordinator died: nobody hears anything.
  void Forget() {
    link_.reset();
    session_.clear();
    replies_.clear();
  }

  void Step() {
    const SteadyTime now = harness_.clock().SteadyNow();
    if (now < frozen_until_) {
      return;
    }
    if (now < partitioned_until_) {
      Work(now);
      return;
    }
    Listen(now);
    Work(now);
    SendResults(now);
    if (now >= next_beat_) {
      next_beat_ = now + absl::Seconds(10);
      Beat();
    }
  }

 private:
  struct Held {
    v1::TaskSpec spec;
    SteadyTime finished_at;
    bool started = false;
  };
  using Key = std::pair<uint64_t, uint64_t>;  // task, epoch

  void Beat() {
    v1::WorkerState report;
    if (link_ == nullptr) {
      link_ = std::make_shared<RecordingLink>();
      seen_ = 0;
      beat_seq_ = 0;
      ack_seq_ = 0;
      *report.mutable_hello() = MakeHello(name_, {.boot_seq = boot_seq_});
    } else if (session_.empty()) {
      return;  // the Welcome is on its way
    }
    report.set_session_id(session_);
    report.set_beat_seq(++beat_seq_);
    report.set_ack_seq(ack_seq_);
    report.set_credits(2);
    for (const auto& [key, held] : held_) {
      AddHeld(report, key,
              held.started ? v1::TASK_PHASE_RUN : v1::TASK_PHASE_FETCH);
    }
    for (const auto& [key, envelope] : spool_) {
      AddHeld(report, key, v1::TASK_PHASE_COMMIT);
    }
    const int copies = report.has_hello()               ? 1
                       : Lost()                         ? 0
                       : faulty && Chance(random_, 0.1) ? 2
                                                        : 1;
    for (int i = 0; i < copies; ++i) {
      harness_.loop().PostAttach(Caller{}, report, link_);
    }
  }

  void AddHeld(v1::WorkerState& report, const Key& key, v1::TaskPhase phase) {
    v1::HeldTask* held = report.add_held();
    held->set_task_id(key.first);
    held->set_epoch(key.second);
    held->mutable_progress()->set_phase(phase);
    held->mutable_progress()->set_progress_seq(beat_seq_);
  }

  void Listen(SteadyTime now) {
    if (link_ == nullptr) {
      return;
    }
    for (; seen_ < link_->states.size(); ++seen_) {
      const v1::DesiredState& desired = link_->states[seen_];
      if (desired.has_welcome()) {
        session_ = desired.welcome().session_id();
      } else if (Lost()) {
        continue;
      }
      if (desired.state_seq() >= ack_seq_) {
        ack_seq_ = desired.state_seq();
        Obey(desired, now);
      }
    }
    if (link_->closed) {
      Disconnect();
    }
  }

  void Obey(const v1::DesiredState& desired, SteadyTime now) {
    std::set<Key> wanted;
    for (const v1::DesiredLease& lease : desired.leases()) {
      const Key key(lease.task_id(), lease.epoch());
      wanted.insert(key);
      if (lease.has_spec() && !held_.contains(key) && !spool_.contains(key) &&
          !finished_.contains(key)) {
        held_[key] = {
            .spec = lease.spec(),
            .finished_at = now + absl::Seconds(5) + Seconds(random_, 40)};
      }
    }
    std::erase_if(held_, [&wanted](const auto& entry) {
      return !wanted.contains(entry.first);
    });
  }

  // One task at a time, in the order of their ids.
  void Work(SteadyTime now) {
    if (held_.empty()) {
      return;
    }
    auto& [key, held] = *held_.begin();
    held.started = true;
    if (faulty && now >= partitioned_until_ && Chance(random_, 0.02)) {
      Release(key);
      return;
    }
    if (now < held.finished_at) {
      return;
    }
    spool_[key] = EnvelopeOf(held.spec, key.second, ResultOf(held.spec));
    held_.erase(held_.begin());
  }

  void Release(Key key) {
    v1::ReleaseTaskRequest request;
    request.set_task_id(key.first);
    request.set_epoch(key.second);
    request.set_reason(Chance(random_, 0.5) ? v1::RELEASE_REASON_FAILED
                                            : v1::RELEASE_REASON_PREEMPTED);
    request.mutable_failure()->set_retryable(true);
    harness_.loop().Post(Caller{}, request, [](auto) {});
    finished_.insert(key);
    held_.erase(key);
  }

  void SendResults(SteadyTime now) {
    for (auto it = spool_.begin(); it != spool_.end();) {
      const auto reply = replies_.find(it->first);
      if (reply != replies_.end() && reply->second.outcome &&
          reply->second.outcome->ok()) {
        const v1::CommitOutcome outcome =
            (*reply->second.outcome)->results(0).outcome();
        EXPECT_NE(outcome, v1::COMMIT_OUTCOME_REJECTED);
        ++met_.outcomes[outcome];
        finished_.insert(it->first);
        replies_.erase(reply);
        it = spool_.erase(it);
        continue;
      }
      if (reply == replies_.end() || now >= reply->second.again_at) {
        SendResult(it->first, it->second, now);
      }
      ++it;
    }
  }

  void SendResult(const Key& key, const v1::ResultEnvelope& envelope,
                  SteadyTime now) {
    Pending& pending = replies_[key];
    pending.again_at = now + absl::Seconds(7);
    pending.outcome =
        std::make_shared<absl::StatusOr<v1::CommitResultResponse>>(
            absl::UnavailableError("no answer yet"));
    if (Lost()) {
      return;  // the request
    }
    v1::CommitResultRequest request;
    *request.add_results() = envelope;
    const bool answer_lost = Lost();
    harness_.loop().Post(
        Caller{}, request,
        [outcome = pending.outcome,
         answer_lost](absl::StatusOr<v1::CommitResultResponse> response) {
          if (!answer_lost) {
            *outcome = std::move(response);
          }
        });
  }

  bool Lost() { return faulty && Chance(random_, 0.15); }

  struct Pending {
    std::shared_ptr<absl::StatusOr<v1::CommitResultResponse>> outcome;
    SteadyTime again_at;
  };

  const std::string name_;
  LoopHarness& harness_;
  Random& random_;
  Met& met_;
  uint64_t boot_seq_ = 1;
  std::shared_ptr<RecordingLink> link_;
  size_t seen_ = 0;  // of the link's messages
  std::string session_;
  uint64_t beat_seq_ = 0;
  uint64_t ack_seq_ = 0;
  SteadyTime next_beat_;
  SteadyTime frozen_until_;
  SteadyTime partitioned_until_;
  std::map<Key, Held> held_;
  std::map<Key, v1::ResultEnvelope> spool_;
  std::map<Key, Pending> replies_;
  std::set<Key> finished_;
};

class Simulation {
 public:
  Simulation(uint64_t seed, Met& met)
      : random_(seed), met_(met), harness_(ManySmallTasks()) {
    harness_.AddCorpus(kUnits);
    for (int i = 0; i < kWorkers; ++i) {
      workers_.push_back(std::make_unique<SimulatedWorker>(
          absl::StrCat("w", i), harness_, random_, met_));
    }
  }

  void Run() {
    for (int i = 0; i < kFaultySteps && !Failed(); ++i) {
      MakeTrouble();
      Step();
    }
    for (auto& worker : workers_) {
      worker->faulty = false;
    }
    harness_.store().ClearFaults();
    for (int i = 0; i < kStepsMax && !AllEnded() && !Failed(); ++i) {
      SubmitAll();
      Step();
    }
    for (int i = 0; i < kStepsAfter && !Failed(); ++i) {
      Step();
    }
    EXPECT_TRUE(AllEnded()) << harness_.state().DumpDurable();
    ExpectReloadEqual();
    ExpectRowsHonest();
    ExpectSkippedCounted();
    met_.restarts += static_cast<int>(harness_.state().coordinator_epoch());
    for (const auto& [id, task] : harness_.state().tasks()) {
      for (const Grant& grant : task.grants) {
        ++met_.ends[*grant.end];
      }
    }
  }

 private:
  static Settings ManySmallTasks() {
    Settings settings;
    settings.max_rows_per_task = 10;
    return settings;
  }
  static bool Failed() { return ::testing::Test::HasFailure(); }

  void Step() {
    harness_.clock().Advance(absl::Milliseconds(100) + Seconds(random_, 5));
    for (auto& worker : workers_) {
      worker->Step();
    }
    QSWEEP_EXPECT_OK(harness_.Step());
    const std::vector<std::string> problems = CheckInvariants(harness_.state());
    EXPECT_TRUE(problems.empty()) << absl::StrJoin(problems, "\n");
  }

  void MakeTrouble() {
    using Fault = FaultyStore::Fault;
    if (Chance(random_, 0.1)) {
      Submit(static_cast<int>(random_.Below(kJobs)));
    }
    if (Chance(random_, 0.02)) {
      v1::CancelJobRequest request;
      request.mutable_job()->set_text("last");
      harness_.loop().Post(request, [](auto) {});
    }
    SimulatedWorker& worker = *workers_[random_.Below(kWorkers)];
    if (Chance(random_, 0.04)) {
      worker.Crash();
    }
    if (Chance(random_, 0.04)) {
      worker.Disconnect();
    }
    if (Chance(random_, 0.03)) {
      worker.Freeze(Seconds(random_, 150));
    }
    if (Chance(random_, 0.05)) {
      worker.Partition(Seconds(random_, 250));
    }
    if (Chance(random_, 0.03)) {
      harness_.clock().JumpWall(
          absl::Hours(static_cast<int64_t>(random_.Below(20'000))) -
          absl::Hours(10'000));
    }
    if (Chance(random_, 0.05)) {
      harness_.store().FailNext(
          Chance(random_, 0.5) ? Fault::kBeforeCommit : Fault::kAfterCommit,
          absl::UnavailableError("COMMIT"));
    }
    if (Chance(random_, 0.02)) {
      harness_.store().FailNext(Fault::kBeforeCommit,
                                absl::ResourceExhaustedError("disk full"));
    }
    if (Chance(random_, 0.04)) {
      Crash();
    }
  }

  void Crash() {
    harness_.Crash();
    for (auto& worker : workers_) {
      worker->Forget();
    }
  }

  void Submit(int job) {
    harness_.loop().Post(
        SweepRequest({.uuid = absl::StrCat(job),
                      .layers = 3,
                      .layer_range = job == 0 ? "0-1" : "all",
                      .reuse = job == 2 ? v1::REUSE_NEVER : v1::REUSE_AUTO}),
        [](auto) {});
  }

  void SubmitAll() {
    for (int job = 0; job < kJobs; ++job) {
      const auto uuid = JobUuid::FromBytes(
          SweepRequest({.uuid = absl::StrCat(job)}).job_uuid());
      if (harness_.state().FindJob(*uuid) == nullptr) {
        Submit(job);
      }
    }
  }

  bool AllEnded() const {
    return harness_.state().jobs().size() == kJobs &&
           harness_.state().active_jobs().empty();
  }

  // A restart from the disk alone must decide as this process would.
  void ExpectReloadEqual() {
    harness_.clock().Advance(absl::Seconds(11));  // leaves a full disk behind
    QSWEEP_EXPECT_OK(harness_.Step());
    QSWEEP_EXPECT_OK(harness_.Step());
    const auto snapshot = harness_.store().Load();
    QSWEEP_ASSERT_OK(snapshot);
    EXPECT_EQ(State(*snapshot).DumpDurable(), harness_.state().DumpDurable());
  }

  void ExpectRowsHonest() {
    for (const auto& [id, task] : harness_.state().tasks()) {
      if (task.state != v1::TASK_STATE_DONE) {
        continue;
      }
      const auto spec = harness_.store().ReadTaskSpec(id);
      QSWEEP_ASSERT_OK(spec);
      const TaskKeys keys = KeysOfSpec(*spec);
      const auto stored = harness_.store().ReadMeasurements(
          keys.evaluation, keys.configurations, keys.documents);
      QSWEEP_ASSERT_OK(stored);
      const v1::TaskResult honest = ResultOf(*spec);
      for (size_t i = 0; i < stored->size(); ++i) {
        ASSERT_TRUE((*stored)[i].has_value());
        EXPECT_TRUE(
            SameMeasurement(*(*stored)[i], honest.rows(static_cast<int>(i))));
      }
    }
  }

  void ExpectSkippedCounted() {
    for (const auto& [number, job] : harness_.state().jobs()) {
      if (job.state == v1::JOB_STATE_SUCCEEDED) {
        const auto stored = harness_.store().CountSkipped(number, "", {});
        QSWEEP_ASSERT_OK(stored);
        EXPECT_EQ(job.documents_skipped, *stored);
        met_.documents_skipped += *stored;
      }
    }
  }

  Random random_;
  Met& met_;
  LoopHarness harness_;
  std::vector<std::unique_ptr<SimulatedWorker>> workers_;
};

TEST(LoopSimulation, EndsEveryJobWithHonestRows_WhateverBreaks) {
  Met met;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Simulation simulation(seed, met);
    simulation.Run();
    if (HasFailure()) {
      return;
    }
  }
  EXPECT_GT(met.restarts, 2 * kSeeds);
  EXPECT_GT(met.documents_skipped, 2 * kSeeds);
  for (const LeaseEnd end :
       {LeaseEnd::kCommitted, LeaseEnd::kSuperseded, LeaseEnd::kFailed,
        LeaseEnd::kLost, LeaseEnd::kPreempted, LeaseEnd::kCancelled}) {
    EXPECT_GT(met.ends[end], 4) << LeaseEndName(end);
  }
  for (const v1::CommitOutcome outcome :
       {v1::COMMIT_OUTCOME_OK, v1::COMMIT_OUTCOME_ALREADY_COMMITTED,
        v1::COMMIT_OUTCOME_SUPERSEDED, v1::COMMIT_OUTCOME_CANCELLED}) {
    EXPECT_GT(met.outcomes[outcome], 4) << v1::CommitOutcome_Name(outcome);
  }
}

}  // namespace
}  // namespace qsweep::testing
