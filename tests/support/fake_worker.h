#ifndef QSWEEP_TESTS_SUPPORT_FAKE_WORKER_H_
#define QSWEEP_TESTS_SUPPORT_FAKE_WORKER_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "gtest/gtest.h"

#include "common/base/digest.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/rpc/worker_client.h"
#include "qsweep/v1/task.pb.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep::testing {

// A worker without engine or spool, over a real channel: attaches, waits for
// leases, sends made-up rows. Single-thread; its callbacks come on threads of
// gRPC.
class FakeWorker {
 public:
  FakeWorker(const Endpoint& endpoint, const std::string& name)
      : client_(MakeWorkerClient(endpoint)),
        uuid_(Digest::Of(name).bytes().substr(0, 16)) {
    v1::Hello& hello = *state_.mutable_hello();
    hello.set_protocol_min(1);
    hello.set_protocol_max(1);
    hello.set_build_id("test");
    hello.set_worker_uuid(uuid_);
    hello.set_boot_id(Digest::Of(name + " boot").bytes().substr(0, 16));
    hello.set_boot_seq(1);
    hello.set_name(name);
    hello.add_evaluations("aligned@1");
    hello.add_methods("rtn");
    v1::Device* device = hello.add_devices();
    device->set_name("cpu");
    device->set_kind("cpu");
    device->set_memory_bytes(uint64_t{8} << 30);
    state_.set_credits(1);
  }
  ~FakeWorker() { stream_.reset(); }

  v1::Hello& hello() { return *state_.mutable_hello(); }
  WorkerClient& client() { return *client_; }

  // Opens the stream; the Welcome must come.
  v1::DesiredState Attach() {
    Open();
    return Await([](const v1::DesiredState& state) {
      return !state.welcome().session_id().empty();
    });
  }
  // Opens the stream; it must end, with this.
  absl::Status AttachRefused() {
    Open();
    return AwaitClosed();
  }
  // The stream must end; with what it did.
  absl::Status AwaitClosed() {
    MutexLock lock(mutex_);
    while (!closed_.has_value()) {
      if (changed_.WaitFor(mutex_, absl::Seconds(20))) {
        ADD_FAILURE() << "the stream did not end";
        return absl::OkStatus();
      }
    }
    return *closed_;
  }

  // The next lease with its spec.
  v1::DesiredLease AwaitLease() {
    return Await([](const v1::DesiredState& state) {
             return state.leases_size() > 0 && state.leases(0).has_spec();
           })
        .leases(0);
  }

  // Commits rows for all keys of the lease; the values follow from the digests.
  absl::StatusOr<v1::CommitResultResponse> Commit(
      const v1::DesiredLease& lease) {
    {
      MutexLock lock(mutex_);
      desired_.reset();  // what comes now does not have the lease any more
    }
    v1::CommitResultRequest request;
    *request.add_results() = Envelope(lease);
    return client_->CommitResult(request);
  }

  v1::ResultEnvelope Envelope(const v1::DesiredLease& lease) {
    v1::TaskResult result;
    const v1::TaskSpec& spec = lease.spec();
    for (int c = 0; c < spec.configurations_size(); ++c) {
      for (int d = 0; d < spec.documents_size(); ++d) {
        v1::Measurement* row = result.add_rows();
        row->set_configuration_index(static_cast<uint32_t>(c));
        row->set_document_index(static_cast<uint32_t>(d));
        row->set_status(v1::ROW_STATUS_OK);
        row->set_tokens(10);
        row->set_bytes(40);
        row->set_bytes_scored(38);
        row->set_chars(40);
        row->set_nll_fp_sum(20 + spec.documents(d).digest()[0] % 7);
        row->set_nll_sum(
            row->nll_fp_sum() +
            (spec.configurations(c).quantizer() == "fp" ? 0 : 1.5));
        row->set_unigram_nll_sum(70);
        row->set_kl_sum(row->nll_sum() - row->nll_fp_sum());
        row->set_top1(9);
      }
    }
    result.mutable_report()->set_engine("fake");
    result.mutable_report()->set_device("cpu");
    v1::ResultEnvelope envelope;
    envelope.set_task_id(lease.task_id());
    envelope.set_epoch(lease.epoch());
    envelope.set_worker_uuid(uuid_);
    envelope.set_session_id(state_.session_id());
    envelope.set_content_key(spec.content_key());
    envelope.set_payload(result.SerializeAsString());
    envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
    return envelope;
  }

 private:
  void Open() {
    state_.set_beat_seq(1);
    stream_.reset();
    {
      MutexLock lock(mutex_);
      closed_.reset();
    }
    stream_ = client_->Attach(state_, {.on_state =
                                           [this](v1::DesiredState state) {
                                             MutexLock lock(mutex_);
                                             desired_ = std::move(state);
                                             changed_.NotifyAll();
                                           },
                                       .on_closed =
                                           [this](absl::Status status) {
                                             MutexLock lock(mutex_);
                                             closed_ = std::move(status);
                                             changed_.NotifyAll();
                                           }});
  }

  template <typename Condition>
  v1::DesiredState Await(Condition condition) {
    MutexLock lock(mutex_);
    while (!desired_.has_value() || !condition(*desired_)) {
      if (closed_.has_value() || changed_.WaitFor(mutex_, absl::Seconds(20))) {
        ADD_FAILURE() << "what was waited for did not come: "
                      << closed_.value_or(absl::OkStatus());
        return {};
      }
    }
    if (desired_->has_welcome()) {
      state_.set_session_id(desired_->welcome().session_id());
    }
    return *desired_;
  }

  std::unique_ptr<WorkerClient> client_;
  std::string uuid_;
  v1::WorkerState state_;
  std::unique_ptr<AttachStream> stream_;

  Mutex mutex_;
  CondVar changed_;
  std::optional<v1::DesiredState> desired_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_FAKE_WORKER_H_
