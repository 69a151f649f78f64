// Every message of the protocol the loop is sent, in any order. The input: a
// program; each operation starts from a message a good client would send, and
// most are then spoiled.
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <google/protobuf/stubs/logging.h>

#include "common/base/log.h"
#include "tests/fuzz/fuzzed_coordinator.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/support/model_descriptions.h"
#include "tests/support/state_builder.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::fuzz {
namespace {

const char* const kNames[] = {"a", "b", "c"};  // of workers and jobs

class Program {
 public:
  explicit Program(Input& input) : input_(input), mutator_(input) {
    for (const char* text :
         {"",        "1",       "2",         "last",        "job/1",
          "sweep-a", "texts",   "eng",       "swh",         "L0",
          "none",    "all",     "L0-1",      "rtn:group=4", "rtn:bits=8",
          "fp",      "aligned", "aligned@1", "hf-text",     "rtn",
          "ann",     "a",       "b",         "q",           "llama",
          "each"}) {
      mutator_.AddText(text);
    }
    for (const char* name : kNames) {
      mutator_.AddBytes(testing::TestWorker(name).bytes());
      mutator_.AddBytes(JobUuidOf(name));
    }
    mutator_.AddBytes(std::string(16, '\0'));
    mutator_.AddBytes(std::string(32, '\0'));
  }

  void Run() {
    for (int operation = 0; operation < kMostOperations && !input_.empty();
         ++operation) {
      RunOne();
      if (input_.Below(4) != 0) {  // else the next is in the same batch
        Step();
      }
    }
    Step();
    coordinator_.CheckDisk();
    coordinator_.End();
  }

 private:
  static constexpr int kMostOperations = 64;

  static std::string JobUuidOf(const std::string& name) {
    return Digest::Of("job " + name).bytes().substr(0, 16);
  }
  std::string Name() { return kNames[input_.Below(std::size(kNames))]; }
  Caller AnyCaller() {
    return {.identity = input_.Below(4) == 0 ? "token/1" : ""};
  }

  // Spoils it sometimes. False: gRPC would not have delivered it.
  template <typename Message>
  bool Spoil(Message& message) {
    const uint64_t spoiled = input_.Below(6);
    for (uint64_t i = 2; i < spoiled; ++i) {
      mutator_.Mutate(message);
    }
    Message delivered;
    const bool ok = delivered.ParseFromString(message.SerializeAsString());
    message = std::move(delivered);
    return ok;
  }
  // Sends a request, spoiled or not.
  template <typename Response, typename Request>
  void Call(Request request) {
    if (Spoil(request)) {
      Loop& loop = coordinator_.loop();
      auto answer = coordinator_.Answer<Response>();
      if constexpr (requires { loop.Post(Caller{}, request, answer); }) {
        loop.Post(Caller{}, std::move(request), std::move(answer));
      } else {
        loop.Post(std::move(request), std::move(answer));
      }
    }
  }
  template <typename Response, typename Request>
  void CallAs(const Caller& caller, Request request) {
    if (Spoil(request)) {
      coordinator_.loop().Post(caller, std::move(request),
                               coordinator_.Answer<Response>());
    }
  }

  void Step() {
    coordinator_.Step();
    for (auto it = workers_.begin(); it != workers_.end();) {
      for (const v1::DesiredLease& lease : it->second.link->state().leases()) {
        if (lease.has_spec()) {
          granted_[lease.task_id()] = lease;
        }
      }
      if (it->second.link->closed()) {
        coordinator_.loop().PostDetach(it->second.link);
        it = workers_.erase(it);
      } else {
        ++it;
      }
    }
  }

  void RunOne();
  void RunWorker(uint64_t operation);
  void RunList(uint64_t operation);
  void Submit();
  void AddCorpus();
  void Attach();
  void Beat();
  void Poll();
  void Commit();
  void Release();
  v1::WorkerState Report(const std::string& name);
  v1::Token TokenRequest();

  struct Worker {
    std::shared_ptr<FuzzedLink> link;
    uint64_t beat = 0;
  };

  Input& input_;
  MessageMutator mutator_;
  FuzzedCoordinator coordinator_;
  std::map<std::string, Worker> workers_;
  std::map<uint64_t, v1::DesiredLease> granted_;  // newest of each task
};

void Program::Submit() {
  const std::string name = Name();
  v1::SubmitJobRequest request = testing::SweepRequest(
      {.uuid = name,
       .layers = 1 + static_cast<int>(input_.Below(3)),
       .reuse = static_cast<v1::Reuse>(1 + input_.Below(3))});
  request.set_dry_run(input_.Below(8) == 0);
  mutator_.AddBytes(request.models(0).digest());
  Call<v1::SubmitJobResponse>(std::move(request));
}

void Program::AddCorpus() {
  const CorpusData data =
      testing::SmallCorpus(1 + static_cast<int>(input_.Below(4)));
  if (input_.Bool()) {
    std::string bytes = data.artifacts[input_.Below(data.artifacts.size())];
    const Digest digest = Digest::Of(bytes);
    mutator_.AddBytes(digest.bytes());
    if (input_.Below(4) == 0) {
      bytes += input_.Text(8);
    }
    coordinator_.loop().PostArtifact(
        digest, bytes, coordinator_.Answer<v1::PutArtifactResponse>());
    return;
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = data.corpus;
  Call<v1::AddCorpusResponse>(std::move(request));
}

// What a good worker of that name says now.
v1::WorkerState Program::Report(const std::string& name) {
  Worker& worker = workers_[name];
  v1::WorkerState report;
  report.set_beat_seq(++worker.beat);
  report.set_credits(2);
  if (worker.link == nullptr) {
    return report;
  }
  report.set_session_id(worker.link->session());
  report.set_ack_seq(worker.link->state().state_seq());
  for (const v1::DesiredLease& lease : worker.link->state().leases()) {
    if (input_.Below(8) != 0) {
      v1::HeldTask& held = *report.add_held();
      held.set_task_id(lease.task_id());
      held.set_epoch(lease.epoch());
      held.mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
      held.mutable_progress()->set_progress_seq(worker.beat);
    }
  }
  return report;
}

void Program::Attach() {
  const std::string name = Name();
  if (workers_.contains(name) && input_.Bool()) {
    coordinator_.loop().PostDetach(workers_[name].link);
  }
  workers_[name] = {.link = std::make_shared<FuzzedLink>()};
  v1::WorkerState report = Report(name);
  *report.mutable_hello() =
      testing::MakeHello(name, {.boot_seq = 1 + input_.Below(3)});
  if (!Spoil(report)) {
    workers_.erase(name);
    return;
  }
  coordinator_.loop().PostAttach(AnyCaller(), std::move(report),
                                 workers_[name].link);
}

void Program::Beat() {
  const std::string name = Name();
  if (!workers_.contains(name)) {
    return;
  }
  v1::WorkerState report = Report(name);
  if (Spoil(report)) {
    coordinator_.loop().PostAttach(AnyCaller(), std::move(report),
                                   workers_[name].link);
  }
}

void Program::Poll() {
  const std::string name = Name();
  v1::WorkerState report;
  if (workers_.contains(name)) {
    report = Report(name);
  } else {
    report.set_credits(1);
    *report.mutable_hello() = testing::MakeHello(name, {});
  }
  CallAs<v1::DesiredState>(AnyCaller(), std::move(report));
}

void Program::Commit() {
  v1::CommitResultRequest request;
  const uint64_t results = 1 + input_.Below(2);
  for (uint64_t i = 0; i < results && !granted_.empty(); ++i) {
    auto it = granted_.begin();
    std::advance(it, input_.Below(granted_.size()));
    const v1::DesiredLease& lease = it->second;
    v1::TaskResult result = testing::HonestResult(lease.spec());
    if (!Spoil(result)) {
      continue;
    }
    v1::ResultEnvelope envelope =
        testing::EnvelopeOf(lease.spec(), lease.epoch(), result);
    if (workers_.contains("a") && workers_["a"].link != nullptr) {
      envelope.set_session_id(workers_["a"].link->session());
      envelope.set_worker_uuid(testing::TestWorker("a").bytes());
    }
    *request.add_results() = envelope;
  }
  CallAs<v1::CommitResultResponse>(AnyCaller(), std::move(request));
}

void Program::Release() {
  v1::ReleaseTaskRequest request;
  if (!granted_.empty()) {
    auto it = granted_.begin();
    std::advance(it, input_.Below(granted_.size()));
    request.set_task_id(it->first);
    request.set_epoch(it->second.epoch());
  }
  request.set_worker_uuid(testing::TestWorker(Name()).bytes());
  request.set_reason(static_cast<v1::ReleaseReason>(1 + input_.Below(4)));
  request.mutable_failure()->set_message("out of memory");
  CallAs<v1::ReleaseTaskResponse>(AnyCaller(), std::move(request));
}

void Program::RunWorker(uint64_t operation) {
  switch (operation) {
    case 0:
      return Attach();
    case 1:
      return Beat();
    case 2:
      return Poll();
    case 3:
    case 4:
      return Commit();
    case 5:
      return Release();
    default:
      const auto it = workers_.find(Name());
      if (it != workers_.end()) {
        coordinator_.loop().PostDetach(it->second.link);
        workers_.erase(it);
      }
  }
}

void Program::RunList(uint64_t operation) {
  v1::JobSelector selector;
  selector.set_text(input_.Bool() ? "1" : "last");
  switch (operation) {
    case 0:
      return Call<v1::GetStatusResponse>(v1::GetStatusRequest());
    case 1:
      return Call<v1::ListJobsResponse>(v1::ListJobsRequest());
    case 2: {
      v1::GetJobRequest request;
      *request.mutable_job() = selector;
      return Call<v1::GetJobResponse>(request);
    }
    case 3:
      return Call<v1::ListTasksResponse>(v1::ListTasksRequest());
    case 4:
      return Call<v1::ListWorkersResponse>(v1::ListWorkersRequest());
    case 5:
      return Call<v1::ListCorporaResponse>(v1::ListCorporaRequest());
    case 6: {
      v1::ExplainTaskRequest request;
      request.set_task_id(1 + input_.Below(6));
      return Call<v1::ExplainTaskResponse>(request);
    }
    case 7:
      return Call<v1::JobSummary>(selector);
    default: {
      v1::WatchJobRequest request;
      *request.mutable_job() = selector;
      if (Spoil(request)) {
        auto sink = std::make_shared<FuzzedSink>(input_.Byte());
        coordinator_.loop().PostWatch(AnyCaller(), request, std::move(sink));
      }
    }
  }
}

void Program::RunOne() {
  switch (input_.Below(16)) {
    case 0:
    case 1:
      return Submit();
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
      return RunWorker(input_.Below(7));
    case 7:
      return RunList(input_.Below(9));
    case 8: {
      v1::ControlJobRequest request;
      request.mutable_job()->set_text(input_.Bool() ? "1" : "last");
      request.set_action(static_cast<v1::JobAction>(1 + input_.Below(5)));
      return Call<v1::ControlJobResponse>(request);
    }
    case 9: {
      v1::CancelJobRequest request;
      request.mutable_job()->set_text(input_.Bool() ? "1" : "last");
      return Call<v1::CancelJobResponse>(request);
    }
    case 10: {
      v1::ControlWorkerRequest request;
      request.set_worker(Name());
      request.set_action(static_cast<v1::WorkerAction>(1 + input_.Below(2)));
      return Call<v1::ControlWorkerResponse>(request);
    }
    case 11: {
      v1::CreateTokenRequest request;
      request.set_secret_sha256(Digest::Of(Name()).bytes());
      request.set_kind(static_cast<v1::TokenKind>(1 + input_.Below(2)));
      request.set_role(static_cast<v1::Role>(1 + input_.Below(4)));
      request.set_ttl_ms(input_.Number());
      return CallAs<v1::CreateTokenResponse>(AnyCaller(), request);
    }
    case 12: {
      if (input_.Bool()) {
        v1::RevokeTokenRequest request;
        request.set_token_id(1 + input_.Below(4));
        return CallAs<v1::RevokeTokenResponse>(AnyCaller(), request);
      }
      v1::JoinRequest request;
      request.set_secret_sha256(Digest::Of("join" + Name()).bytes());
      if (Spoil(request)) {
        coordinator_.loop().PostJoin(
            TokenId(static_cast<int64_t>(input_.Below(4))), request,
            coordinator_.Answer<v1::JoinResponse>());
      }
      return;
    }
    case 13:
      return AddCorpus();
    case 14:
      return coordinator_.Advance(absl::Milliseconds(
          static_cast<int64_t>(uint64_t{1} << input_.Below(24))));
    default:
      Step();
      coordinator_.CheckDisk();
      workers_.clear();
      coordinator_.Restart();
  }
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Text that is not UTF-8 is refused where gRPC would refuse it, not printed.
  static const auto kQuiet = [] {
    qsweep::SilenceLog();
    return google::protobuf::SetLogHandler(nullptr);
  }();
  static_cast<void>(kQuiet);
  qsweep::fuzz::Input input(data, size);
  qsweep::fuzz::Program(input).Run();
  return 0;
}
