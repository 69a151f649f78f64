// Random commands on the Decide functions and on a model of them.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "coordinator/core/attach.h"
#include "coordinator/core/cancel.h"
#include "coordinator/core/commit.h"
#include "coordinator/core/job_control.h"
#include "coordinator/core/lease.h"
#include "coordinator/core/retry.h"
#include "rapidcheck/gtest.h"
#include "tests/properties/lease_model.h"
#include "tests/properties/sweep_cases.h"
#include "tests/support/state_builder.h"
#include "tests/support/state_snapshot.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::testing {
namespace {

constexpr int kWorkers = 4;
constexpr int kJobs = 3;
const std::vector<std::vector<int64_t>> kSubscribers = {
    {1}, {1, 2}, {2}, {1, 2, 3}, {3}};

// A command is numbers, each of which means something in every state, so that
// what is left of a list when commands are taken away is a list, too.
struct Command {
  enum class Kind {
    kGrant,
    kReport,
    kHello,
    kGoodbye,
    kSend,
    kDetach,
    kRelease,
    kCommit,
    kPassTime,
    kCancel,
    kStop,
    kPause,
    kResume,
    kRetry,
    kRestart
  };
  Kind kind = Kind::kGrant;
  int who = 0;           // worker, task or job
  int which = 0;         // epoch, reason, or length of time
  bool flag = false;     // retryable; a new process; the worker saw the last
  std::set<int> listed;  // tasks from 0
};

constexpr const char* kCommands[] = {"grant",  "report", "hello",   "goodbye",
                                     "send",   "detach", "release", "commit",
                                     "time",   "cancel", "stop",    "pause",
                                     "resume", "retry",  "restart"};

void showValue(const Command& command, std::ostream& out) {
  out << kCommands[static_cast<size_t>(command.kind)] << " " << command.who
      << " " << command.which << (command.flag ? " flag" : "");
  for (const int task : command.listed) {
    out << " t" << task;
  }
}

rc::Gen<Command> AnyCommand() {
  using Kind = Command::Kind;
  return rc::gen::exec([] {
    Command command;
    command.kind = *rc::gen::weightedElement<Kind>({{12, Kind::kGrant},
                                                    {6, Kind::kReport},
                                                    {6, Kind::kHello},
                                                    {2, Kind::kGoodbye},
                                                    {3, Kind::kSend},
                                                    {1, Kind::kDetach},
                                                    {6, Kind::kRelease},
                                                    {4, Kind::kCommit},
                                                    {6, Kind::kPassTime},
                                                    {1, Kind::kCancel},
                                                    {2, Kind::kStop},
                                                    {1, Kind::kPause},
                                                    {1, Kind::kResume},
                                                    {2, Kind::kRetry},
                                                    {1, Kind::kRestart}});
    command.who = *rc::gen::inRange(0, 60);
    command.which = *rc::gen::inRange(0, 12);
    command.flag = *rc::gen::arbitrary<bool>();
    if (command.kind == Kind::kReport || command.kind == Kind::kHello ||
        command.kind == Kind::kGoodbye) {
      command.listed = *AnySubset(static_cast<int>(kSubscribers.size()));
    }
    return command;
  });
}

Settings TightBudgets() {
  Settings settings;
  settings.failed_budget = 2;
  settings.lost_budget = 2;
  settings.blame_limit = 1'000;
  settings.start_deadline = absl::Seconds(20);
  return settings;
}

// Carries commands out on a real State and on the model, side by side.
class SideBySide {
 public:
  SideBySide() : settings_(TightBudgets()) {
    StateBuilder builder;
    for (int job = 1; job <= kJobs; ++job) {
      int64_t measurements = 0;
      for (const auto& jobs : kSubscribers) {
        measurements += std::ranges::count(jobs, job);
      }
      builder.Job({.measurements = static_cast<uint64_t>(measurements)});
      model_.jobs[job] = v1::JOB_STATE_QUEUED;
    }
    for (size_t t = 0; t < kSubscribers.size(); ++t) {
      builder.Task(
          {.jobs = kSubscribers[t], .documents = {absl::StrCat("d", t)}});
      const int task = static_cast<int>(t) + 1;
      for (const int64_t job : kSubscribers[t]) {
        model_.tasks[task].jobs.insert(static_cast<int>(job));
      }
    }
    for (int worker = 1; worker <= kWorkers; ++worker) {
      model_.workers[worker];
    }
    state_ = builder.Build();
    for (const auto& [id, task] : state_.tasks()) {
      specs_.push_back(state_.MakeTaskSpec(task));
    }
    model_.settings = settings_;
  }

  void Run(const Command& command) {
    using Kind = Command::Kind;
    charged_.clear();
    model_.charged.clear();
    const int worker = command.who % kWorkers + 1;
    const int job = command.who % kJobs + 1;
    switch (command.kind) {
      case Kind::kGrant:
        Grant(worker);
        break;
      case Kind::kReport:
      case Kind::kHello:
      case Kind::kGoodbye:
        Report(worker, command);
        break;
      case Kind::kSend:
        Send(worker);
        break;
      case Kind::kDetach:
        Apply(DecideDetach(state_, SessionOf(worker)));
        model_.Detach(worker);
        break;
      case Kind::kRelease:
        Release(command);
        break;
      case Kind::kCommit:
        Commit(command);
        break;
      case Kind::kPassTime:
        PassTime(command);
        break;
      case Kind::kRestart:
        Restart();
        break;
      default:
        Control(command.kind, job);
    }
    Compare();
  }

 private:
  Now now() const { return TestNow(model_.now); }
  static std::string Name(int worker) { return absl::StrCat("w", worker); }
  SessionId SessionOf(int worker) const {
    const Worker* known = state_.FindWorker(TestWorker(Name(worker)));
    return known == nullptr ? TestSession("none") : known->session;
  }

  void Apply(const std::vector<Mutation>& mutations) {
    for (const Mutation& mutation : mutations) {
      if (const auto* ended = std::get_if<LeaseEnded>(&mutation)) {
        charged_[static_cast<int>(ended->task.value())] = ended->held;
      }
      if (const auto* result = std::get_if<ResultCommitted>(&mutation);
          result != nullptr && state_.task(result->task).lease) {
        charged_[static_cast<int>(result->task.value())] = result->held;
      }
      state_.Apply(mutation);
    }
  }

  void Grant(int worker) {
    const auto decision =
        DecideLease(state_, TestWorker(Name(worker)), settings_, now());
    Apply(decision.mutations);
    const std::set<int> grantable = model_.Grantable(worker);
    if (!decision.reply.ok() || !decision.reply->has_value()) {
      RC_ASSERT(grantable == std::set<int>());
      return;
    }
    const int task = static_cast<int>((*decision.reply)->task.value());
    RC_ASSERT(grantable.contains(task));
    model_.Grant(task, worker);
  }

  void Report(int worker, const Command& command) {
    const bool hello = command.kind == Command::Kind::kHello;
    const bool goodbye = command.kind == Command::Kind::kGoodbye;
    Process& process = processes_[worker];
    const bool new_process = hello && (command.flag || process.boot_seq == 0);
    process.boot_seq += new_process ? 1 : 0;
    WorkerOptions options{.models = {{"model", v1::ResidentModel::LEVEL_DISK}},
                          .boot_seq = process.boot_seq};
    v1::WorkerState report =
        MakeReport(Name(worker), options, ++process.beat_seq);
    report.set_session_id(hello ? "" : SessionOf(worker).bytes());
    report.set_goodbye(goodbye);
    if (hello) {
      *report.mutable_hello() = MakeHello(Name(worker), options);
    }
    const Worker* known = state_.FindWorker(TestWorker(Name(worker)));
    if (command.flag && known != nullptr) {
      report.set_ack_seq(known->state_seq);
    }
    std::set<int> listed;
    for (const int held : model_.HeldBy(worker)) {
      if (command.listed.contains(held - 1)) {
        v1::HeldTask& task = *report.add_held();
        task.set_task_id(static_cast<uint64_t>(held));
        task.set_epoch(model_.tasks[held].grants.size());
        task.mutable_progress()->set_phase(v1::TASK_PHASE_FETCH);
        listed.insert(held);
      }
    }
    const SessionId session =
        TestSession(absl::StrCat(worker, " ", process.beat_seq));
    const auto decision = DecideWorkerState(
        state_, "", std::make_shared<const v1::WorkerState>(report), session,
        settings_, now());
    Apply(decision.mutations);
    if (decision.reply.ok()) {
      for (const EndedLease& ended : decision.reply->ended) {
        Apply(DecideLeaseEnd(state_, ended.task, ended.end, ended.reason, true,
                             settings_, now()));
      }
    }
    model_.Report(worker, hello, new_process, goodbye, listed, command.flag);
  }

  void Send(int worker) {
    const Worker* known = state_.FindWorker(TestWorker(Name(worker)));
    if (known == nullptr) {
      return;
    }
    const v1::DesiredState desired =
        MakeDesiredState(state_, *known, settings_);
    std::set<int> leases;
    for (const v1::DesiredLease& lease : desired.leases()) {
      const int task = static_cast<int>(lease.task_id());
      leases.insert(task);
      RC_ASSERT(lease.epoch() == model_.tasks[task].grants.size());
    }
    RC_ASSERT(leases == model_.HeldBy(worker));
    Apply({WorkerInformed{.worker = known->uuid,
                          .state_seq = desired.state_seq()}});
    model_.Send(worker);
  }

  // Of a task that was granted: some epoch of it. 0: there is none.
  size_t EpochOf(int task, const Command& command) const {
    const size_t grants = model_.tasks.at(task).grants.size();
    return grants == 0
               ? 0
               : grants - static_cast<size_t>(command.which) / 4 % grants;
  }

  void Release(const Command& command) {
    const int task = command.who % static_cast<int>(kSubscribers.size()) + 1;
    const size_t epoch = EpochOf(task, command);
    constexpr std::pair<v1::ReleaseReason, LeaseEnd> kReasons[] = {
        {v1::RELEASE_REASON_FAILED, LeaseEnd::kFailed},
        {v1::RELEASE_REASON_STALLED, LeaseEnd::kStalled},
        {v1::RELEASE_REASON_PREEMPTED, LeaseEnd::kPreempted},
        {v1::RELEASE_REASON_DRAINED, LeaseEnd::kPreempted}};
    const auto& [reason, end] = kReasons[command.which % 4];
    v1::ReleaseTaskRequest request;
    request.set_task_id(static_cast<uint64_t>(task));
    request.set_epoch(epoch);
    request.set_reason(reason);
    request.mutable_failure()->set_retryable(command.flag);
    const auto decision = DecideRelease(state_, "", request, settings_, now());
    RC_ASSERT(decision.reply.ok() == (epoch > 0));
    Apply(decision.mutations);
    if (epoch > 0) {
      model_.Release(task, epoch, end,
                     command.flag || end == LeaseEnd::kStalled);
    }
  }

  void Commit(const Command& command) {
    const int task = command.who % static_cast<int>(kSubscribers.size()) + 1;
    const size_t epoch = EpochOf(task, command);
    const v1::TaskSpec& spec = specs_[static_cast<size_t>(task - 1)];
    const v1::TaskResult result = HonestResult(spec);
    const auto opened =
        OpenEnvelope(state_, "", EnvelopeOf(spec, epoch, result));
    RC_ASSERT(opened.ok() == (epoch > 0));
    if (epoch == 0) {
      return;
    }
    std::vector<std::optional<StoredRow>> stored;
    for (const v1::Measurement& row : result.rows()) {
      auto& of = stored.emplace_back();
      if (model_.tasks[task].state == v1::TASK_STATE_DONE) {
        of = StoredRow{.values = row, .engine = result.report().engine()};
      }
    }
    const auto decision =
        DecideCommit(state_, EnvelopeOf(spec, epoch, result), *opened,
                     KeysOfSpec(spec), stored, {}, settings_, now());
    RC_ASSERT(decision.reply.status() == absl::OkStatus());
    Apply(decision.mutations);
    RC_ASSERT(decision.reply->outcome() == model_.Commit(task, epoch));
  }

  void PassTime(const Command& command) {
    model_.PassTime(absl::Seconds(command.which * command.which));
    for (size_t t = 1; t <= kSubscribers.size(); ++t) {
      Apply(DecideTimeout(state_, TaskId(static_cast<int64_t>(t)), settings_,
                          now()));
    }
    for (int worker = 1; worker <= kWorkers; ++worker) {
      const WorkerUuid uuid = TestWorker(Name(worker));
      if (state_.FindWorker(uuid) != nullptr) {
        Apply(DecideWorkerTimeout(state_, uuid, settings_, now()));
      }
    }
  }

  void Restart() {
    const std::string before = state_.DumpDurable();
    state_ = State(SnapshotOf(state_));
    RC_ASSERT(state_.DumpDurable() == before);
    Apply({CoordinatorStarted{
        .epoch = state_.coordinator_epoch() + 1,
        .now = now().steady,
        .failover_deadline = now().steady + settings_.failover_ttl}});
    model_.Restart();
    for (auto& [id, task] : model_.tasks) {
      if (task.state == v1::TASK_STATE_BACKOFF) {  // the delay begins again
        const Task& real = state_.task(TaskId(id));
        task.until = model_.now + real.history->backoff;
      }
    }
  }

  void Control(Command::Kind kind, int job) {
    const JobNumber number(job);
    switch (kind) {
      case Command::Kind::kCancel:
        Apply(DecideCancel(state_, number, "", Settings(), now()).mutations);
        model_.Cancel(job);
        break;
      case Command::Kind::kStop:
        Apply(DecideStop(state_, number, "", Settings(), now()).mutations);
        model_.Stop(job);
        break;
      case Command::Kind::kPause:
        Apply(DecidePause(state_, number, "", now()).mutations);
        model_.Pause(job);
        break;
      case Command::Kind::kResume:
        Apply(DecideResume(state_, number, now()).mutations);
        model_.Resume(job);
        break;
      default:
        if (!state_.job(number).terminal()) {
          Apply(DecideRetryTasks(state_, number, now()).mutations);
        }
        model_.Retry(job);
    }
  }

  // What is compared, as text that a failure shows.
  std::vector<std::string> Real() const {
    std::vector<std::string> lines;
    for (const auto& [id, task] : state_.tasks()) {
      std::string& line = lines.emplace_back(absl::StrCat(
          "task ", id.value(), " ", ShortName(task.state), ", failed ",
          task.history->failed, ", lost ", task.history->lost, ", preempted ",
          task.history->preempted, ", jobs"));
      for (const JobNumber job : task.jobs) {
        absl::StrAppend(&line, " ", job.value());
      }
      for (const qsweep::Grant& grant : task.history->grants) {
        absl::StrAppend(&line, ", ", NumberOf(grant.worker), ":",
                        grant.end ? LeaseEndName(*grant.end) : "held");
      }
    }
    for (const auto& [number, job] : state_.jobs()) {
      lines.push_back(
          absl::StrCat("job ", number.value(), " ", ShortName(job.state)));
    }
    for (int number = 1; number <= kWorkers; ++number) {
      const Worker* worker = state_.FindWorker(TestWorker(Name(number)));
      std::string& line = lines.emplace_back(absl::StrCat("w", number));
      if (worker != nullptr) {
        absl::StrAppend(&line, " ", static_cast<int>(worker->liveness));
        for (const TaskId task : worker->leases) {
          absl::StrAppend(&line, " ", task.value());
        }
      }
    }
    return lines;
  }

  std::vector<std::string> Expected() const {
    std::vector<std::string> lines;
    for (const auto& [id, task] : model_.tasks) {
      std::string& line = lines.emplace_back(absl::StrCat(
          "task ", id, " ", ShortName(task.state), ", failed ", task.failed,
          ", lost ", task.lost, ", preempted ", task.preempted, ", jobs"));
      for (const int job : task.jobs) {
        absl::StrAppend(&line, " ", job);
      }
      for (const LeaseModel::Attempt& attempt : task.grants) {
        absl::StrAppend(&line, ", w", attempt.worker, ":",
                        attempt.end ? LeaseEndName(*attempt.end) : "held");
      }
    }
    for (const auto& [number, state] : model_.jobs) {
      lines.push_back(absl::StrCat("job ", number, " ", ShortName(state)));
    }
    for (const auto& [number, worker] : model_.workers) {
      std::string& line = lines.emplace_back(absl::StrCat("w", number));
      if (state_.FindWorker(TestWorker(Name(number))) != nullptr) {
        absl::StrAppend(&line, " ", static_cast<int>(worker.liveness));
        for (const int task : model_.HeldBy(number)) {
          absl::StrAppend(&line, " ", task);
        }
      }
    }
    return lines;
  }

  static std::string NumberOf(const WorkerUuid& uuid) {
    for (int worker = 1; worker <= kWorkers; ++worker) {
      if (TestWorker(Name(worker)) == uuid) {
        return Name(worker);
      }
    }
    return "?";
  }

  // The jitter is the product's: the model takes each delay over, once.
  // back_off_test.cc has its bounds.
  void TakeDelays() {
    for (auto& [id, task] : model_.tasks) {
      if (task.state != v1::TASK_STATE_BACKOFF) {
        continue;
      }
      const TaskHistory& history = *state_.task(TaskId(id)).history;
      const absl::Duration until = history.ready_at - TestNow().steady;
      if (backoff_epoch_[id] != task.grants.size()) {
        backoff_epoch_[id] = task.grants.size();
        task.until = until;
      }
      RC_ASSERT(task.until == until);
    }
  }

  void Compare() {
    RC_ASSERT(Real() == Expected());
    RC_ASSERT(charged_ == model_.charged);
    RC_ASSERT(CheckInvariants(state_) == std::vector<std::string>());
    TakeDelays();
  }

  struct Process {
    uint64_t boot_seq = 0;
    uint64_t beat_seq = 0;
  };

  Settings settings_;
  State state_;
  LeaseModel model_;
  std::vector<v1::TaskSpec> specs_;
  std::map<int, Process> processes_;
  std::map<int, absl::Duration> charged_;
  std::map<int, size_t> backoff_epoch_;  // whose delay the model has
};

RC_GTEST_PROP(LeaseTable, AgreesWithTheModel_AfterEveryCommand, ()) {
  const auto commands = *rc::gen::container<std::vector<Command>>(AnyCommand());
  SideBySide both;
  for (const Command& command : commands) {
    both.Run(command);
  }
}

}  // namespace
}  // namespace qsweep::testing
