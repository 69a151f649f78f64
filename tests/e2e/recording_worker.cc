#include "tests/e2e/recording_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "tests/support/fake_measurement.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kRedialPause =
    absl::Milliseconds(50);  // before it redials

v1::ResultEnvelope Envelope(const v1::DesiredLease& lease,
                            const std::string& worker_uuid,
                            const std::string& session_id) {
  const v1::TaskSpec& spec = lease.spec();
  v1::TaskResult result;
  for (int c = 0; c < spec.configurations_size(); ++c) {
    for (int d = 0; d < spec.documents_size(); ++d) {
      v1::Measurement& row = *result.add_rows();
      row = FakeMeasurement(spec.configurations(c).digest(),
                            spec.documents(d).digest(),
                            spec.configurations(c).layer_set() == "all");
      row.set_configuration_index(static_cast<uint32_t>(c));
      row.set_document_index(static_cast<uint32_t>(d));
    }
  }
  result.mutable_report()->set_engine("fake-1");
  result.mutable_report()->set_device("cpu");
  v1::ResultEnvelope envelope;
  envelope.set_task_id(lease.task_id());
  envelope.set_epoch(lease.epoch());
  envelope.set_worker_uuid(worker_uuid);
  envelope.set_session_id(session_id);
  envelope.set_content_key(spec.content_key());
  envelope.set_payload(result.SerializeAsString());
  envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
  return envelope;
}

}  // namespace

RecordingWorker::RecordingWorker(const Endpoint& endpoint,
                                 absl::Duration heartbeat,
                                 absl::Duration task_time, uint64_t seed,
                                 Ledger& ledger)
    : endpoint_(endpoint),
      heartbeat_(heartbeat),
      task_time_(task_time),
      ledger_(ledger),
      random_(seed) {
  hello_.set_protocol_min(1);
  hello_.set_protocol_max(1);
  hello_.set_build_id("test");
  hello_.set_worker_uuid(SecureRandomBytes(16));
  hello_.set_boot_id(SecureRandomBytes(16));
  hello_.set_boot_seq(1);
  hello_.set_name("recorder");
  for (const char* evaluation : {"aligned@1", "hf-text@1"}) {
    hello_.add_evaluations(evaluation);
  }
  hello_.add_methods("rtn");
  v1::Device& device = *hello_.add_devices();
  device.set_name("cpu");
  device.set_kind("cpu");
  device.set_memory_bytes(uint64_t{8} << 30);
  device.set_gflops(100);
  thread_ = std::thread([this] { Run(); });
}

RecordingWorker::~RecordingWorker() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void RecordingWorker::Attach() {
  stream_.reset();
  client_ = MakeWorkerClient(endpoint_);
  session_id_.clear();
  beat_seq_ = 0;
  ack_seq_ = 0;
  {
    MutexLock lock(mutex_);
    closed_ = false;
    desired_.reset();
  }
  v1::WorkerState first = MakeState();
  *first.mutable_hello() = hello_;
  stream_ = client_->Attach(first, {.on_state =
                                        [this](v1::DesiredState state) {
                                          MutexLock lock(mutex_);
                                          desired_ = std::move(state);
                                          changed_.NotifyAll();
                                        },
                                    .on_closed =
                                        [this](const absl::Status&) {
                                          MutexLock lock(mutex_);
                                          closed_ = true;
                                          changed_.NotifyAll();
                                        }});
}

v1::WorkerState RecordingWorker::MakeState() {
  v1::WorkerState state;
  state.set_session_id(session_id_);
  state.set_beat_seq(++beat_seq_);
  state.set_credits(1);
  state.set_ack_seq(ack_seq_);
  if (!model_digest_.empty()) {
    v1::ResidentModel& model = *state.add_models();
    model.set_digest(model_digest_);
    model.set_level(v1::ResidentModel::LEVEL_MEMORY);
  }
  if (running_) {
    v1::HeldTask& held = *state.add_held();
    held.set_task_id(running_->task_id());
    held.set_epoch(running_->epoch());
    held.mutable_progress()->set_phase(v1::TASK_PHASE_COMMIT);
  }
  return state;
}

void RecordingWorker::TakeLease(const v1::DesiredState& desired) {
  if (desired.has_welcome()) {
    session_id_ = desired.welcome().session_id();
  }
  ack_seq_ = desired.state_seq();
  if (running_) {
    return;  // kept even when it is not wanted any more: a late result
  }
  const auto lease = std::ranges::find_if(
      desired.leases(),
      [](const v1::DesiredLease& one) { return one.has_spec(); });
  if (lease != desired.leases().end()) {
    running_ = *lease;
    model_digest_ = lease->spec().model_digest();
    granted_in_ = session_id_;
    run_until_ = Clock::Real().SteadyNow() + task_time_;
    if (random_.Below(8) == 0) {  // beyond its lease, for all it knows
      run_until_ = run_until_ + 10 * task_time_;
    }
  }
}

void RecordingWorker::SendResult() {
  v1::CommitResultRequest request;
  *request.add_results() = *result_;
  const bool again = last_result_ && random_.Below(8) == 0;
  if (again) {
    *request.add_results() = *last_result_;
  }
  const auto response = client_->CommitResult(request);
  if (!response.ok()) {
    run_until_ = Clock::Real().SteadyNow() + kRedialPause;
    return;  // kept
  }
  for (int i = 0; i < request.results_size(); ++i) {
    const v1::ResultEnvelope& sent = request.results(i);
    const v1::CommitOutcome outcome = response->results(i).outcome();
    ledger_.Count(absl::StrCat("recorder: ", v1::CommitOutcome_Name(outcome)));
    if (outcome == v1::COMMIT_OUTCOME_OK ||
        outcome == v1::COMMIT_OUTCOME_ALREADY_COMMITTED) {
      ledger_.Result(sent.task_id(), sent.epoch());
    } else if (outcome == v1::COMMIT_OUTCOME_SUPERSEDED) {
      ledger_.Superseded(sent.task_id(), sent.epoch());
    } else {
      ledger_.Problem(absl::StrCat(
          "the result of task ", sent.task_id(), " epoch ", sent.epoch(),
          " was refused: ", response->results(i).ShortDebugString()));
    }
  }
  last_result_ = std::move(result_);
  result_.reset();
  running_.reset();
}

void RecordingWorker::Run() {
  Attach();
  SteadyTime beat_at = Clock::Real().SteadyNow() + heartbeat_;
  while (!stopping()) {
    std::optional<v1::DesiredState> desired;
    bool closed = false;
    {
      MutexLock lock(mutex_);
      const SteadyTime until =
          running_ ? std::min(beat_at, run_until_) : beat_at;
      const absl::Duration wait = until - Clock::Real().SteadyNow();
      if (!stopping_ && !closed_ && !desired_ && wait > absl::ZeroDuration()) {
        changed_.WaitFor(mutex_, wait);
      }
      desired.swap(desired_);
      closed = closed_;
    }
    if (closed) {
      MutexLock lock(mutex_);
      changed_.WaitFor(mutex_, kRedialPause);
    }
    if (closed) {
      Attach();
      beat_at = Clock::Real().SteadyNow() + heartbeat_;
      continue;
    }
    if (desired) {
      TakeLease(*desired);
    }
    if (running_ && !result_ && Clock::Real().SteadyNow() >= run_until_) {
      result_ = Envelope(*running_, hello_.worker_uuid(), granted_in_);
    }
    if (result_ && Clock::Real().SteadyNow() >= run_until_) {
      SendResult();
    }
    if (desired || Clock::Real().SteadyNow() >= beat_at) {
      stream_->Send(MakeState());
      beat_at = Clock::Real().SteadyNow() + heartbeat_;
    }
  }
  stream_.reset();
}

}  // namespace qsweep::testing
