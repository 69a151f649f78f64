#include "common/rpc/coordinator_client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "common/rpc/retry.h"
#include "common/rpc/status_conversion.h"
#include "common/rpc/tls_peer.h"
#include "qsweep/v1/coordinator.grpc.pb.h"

namespace qsweep {
namespace {

constexpr absl::Duration kSubmitTimeout = absl::Seconds(60);
constexpr absl::Duration kWholeFileTimeout = absl::Minutes(10);
constexpr absl::Duration kHandshakeTimeout = absl::Seconds(5);
constexpr size_t kChunkBytes = size_t{256} << 10;

// To gRPC a bad certificate is one more way of not being reachable.
absl::Status Explain(const Endpoint& endpoint, const absl::Status& status) {
  if (absl::IsUnavailable(status) && !endpoint.ca_pem.empty() &&
      !GetErrorInfo(status)) {
    const absl::Status certificate = CheckServerCertificate(
        endpoint.address, endpoint.ca_pem, kHandshakeTimeout);
    if (!certificate.ok() && !absl::IsUnavailable(certificate)) {
      return certificate;
    }
  }
  return ExplainCallStatus(endpoint, status);
}

std::chrono::system_clock::time_point GrpcDeadline(absl::Duration timeout) {
  return absl::ToChronoTime(Clock::Real().Now() + timeout);
}

}  // namespace

struct CoordinatorClient::Impl {
  Endpoint endpoint;
  CoordinatorClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::CoordinatorService::Stub> stub;
  std::atomic<uint64_t> calls = 0;  // makes each call's jitter its own

  // Runs one stub method with deadline and repeats.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(
      grpc::Status (v1::CoordinatorService::Stub::*method)(grpc::ClientContext*,
                                                           const Request&,
                                                           Response*),
      const Request& request, absl::Duration timeout) {
    if (const size_t bytes = request.ByteSizeLong(); bytes > kMaxMessageBytes) {
      return MakeError(kBadValue, absl::StrCat("the message has ", bytes,
                                               " bytes; the coordinator takes ",
                                               kMaxMessageBytes, " at most"));
    }
    Response response;
    QSWEEP_RETURN_IF_ERROR(Repeat(timeout, [&](grpc::ClientContext& context) {
      response.Clear();
      return (stub.get()->*method)(&context, request, &response);
    }));
    return response;
  }

  // Calls attempt(context) until it is not UNAVAILABLE any more, or in vain.
  absl::Status Repeat(
      absl::Duration timeout,
      absl::FunctionRef<grpc::Status(grpc::ClientContext&)> attempt) {
    const SteadyTime now = Clock::Real().SteadyNow();
    const SteadyTime deadline = now + timeout;
    Random random(
        static_cast<uint64_t>(absl::ToInt64Nanoseconds(now.since_boot())) +
        calls.fetch_add(1));
    const absl::Status status = RetryWhileUnavailable(
        {}, now + std::min(options.retry_for, timeout), Clock::Real(),
        RealSleeper(), random, [&] {
          grpc::ClientContext context;
          AddToken(endpoint, context);
          context.set_deadline(
              GrpcDeadline(deadline - Clock::Real().SteadyNow()));
          return FromGrpcStatus(attempt(context));
        });
    return status.ok() ? status : Explain(endpoint, status);
  }

  // Reads a server stream to its end or until `on_message` returns false.
  template <typename Message, typename Reader>
  absl::Status Drain(grpc::ClientContext& context, Reader& reader,
                     absl::FunctionRef<bool(const Message&)> on_message) {
    Message message;
    bool stopped = false;
    while (!stopped && reader.Read(&message)) {
      stopped = !on_message(message);
    }
    if (stopped) {
      context.TryCancel();
    }
    const absl::Status status = FromGrpcStatus(reader.Finish());
    return stopped ? absl::OkStatus() : Explain(endpoint, status);
  }
};

CoordinatorClient::CoordinatorClient(const Endpoint& endpoint,
                                     const CoordinatorClientOptions& options)
    : impl_(new Impl) {
  impl_->endpoint = endpoint;
  impl_->options = options;
  impl_->channel = MakeChannel(endpoint);
  impl_->stub = v1::CoordinatorService::NewStub(impl_->channel);
}

CoordinatorClient::~CoordinatorClient() = default;

const Endpoint& CoordinatorClient::endpoint() const { return impl_->endpoint; }

// A unary method is only its name and its deadline.
#define QSWEEP_UNARY_CALL(name, timeout)                                       \
  absl::StatusOr<v1::name##Response> CoordinatorClient::name(                  \
      const v1::name##Request& request) {                                      \
    return impl_->Call(&v1::CoordinatorService::Stub::name, request, timeout); \
  }

QSWEEP_UNARY_CALL(GetStatus, impl_->options.timeout)
QSWEEP_UNARY_CALL(SubmitJob, std::max(impl_->options.timeout, kSubmitTimeout))
QSWEEP_UNARY_CALL(ListJobs, impl_->options.timeout)
QSWEEP_UNARY_CALL(GetJob, impl_->options.timeout)
QSWEEP_UNARY_CALL(CancelJob, impl_->options.timeout)
QSWEEP_UNARY_CALL(ListTasks, impl_->options.timeout)
QSWEEP_UNARY_CALL(ControlJob, impl_->options.timeout)
QSWEEP_UNARY_CALL(ExplainTask, impl_->options.timeout)
QSWEEP_UNARY_CALL(ControlWorker, impl_->options.timeout)
QSWEEP_UNARY_CALL(Backup, std::max(impl_->options.timeout, kWholeFileTimeout))
QSWEEP_UNARY_CALL(CheckDatabase,
                  std::max(impl_->options.timeout, kWholeFileTimeout))
QSWEEP_UNARY_CALL(ListWorkers, impl_->options.timeout)
QSWEEP_UNARY_CALL(ListCorpora, impl_->options.timeout)
QSWEEP_UNARY_CALL(SampleTexts, impl_->options.timeout)
QSWEEP_UNARY_CALL(Query, impl_->options.timeout +
                             absl::Milliseconds(request.deadline_ms()))
QSWEEP_UNARY_CALL(Join, impl_->options.timeout)
QSWEEP_UNARY_CALL(CreateToken, impl_->options.timeout)
QSWEEP_UNARY_CALL(ListTokens, impl_->options.timeout)
QSWEEP_UNARY_CALL(RevokeToken, impl_->options.timeout)
QSWEEP_UNARY_CALL(RotateToken, impl_->options.timeout)
QSWEEP_UNARY_CALL(CollectGarbage,
                  std::max(impl_->options.timeout, kWholeFileTimeout))

#undef QSWEEP_UNARY_CALL

absl::StatusOr<v1::GetResultsResponse> CoordinatorClient::GetResults(
    const v1::GetResultsRequest& request, absl::Duration timeout) {
  return impl_->Call(&v1::CoordinatorService::Stub::GetResults, request,
                     timeout);
}

absl::StatusOr<v1::AddCorpusResponse> CoordinatorClient::AddCorpus(
    const v1::AddCorpusRequest& request) {
  const std::vector<v1::Corpus> parts =
      SplitCorpus(request.corpus(), kChunkBytes);
  v1::AddCorpusResponse response;
  QSWEEP_RETURN_IF_ERROR(impl_->Repeat(
      std::max(impl_->options.timeout, kSubmitTimeout),
      [&](grpc::ClientContext& context) {
        response.Clear();
        const auto writer = impl_->stub->AddCorpus(&context, &response);
        for (const v1::Corpus& part : parts) {
          v1::AddCorpusRequest message;
          *message.mutable_corpus() = part;
          if (!writer->Write(message)) {
            break;  // Finish says why
          }
        }
        writer->WritesDone();
        return writer->Finish();
      }));
  return response;
}

absl::StatusOr<v1::PutArtifactResponse> CoordinatorClient::PutArtifact(
    absl::string_view bytes) {
  grpc::ClientContext context;
  AddToken(impl_->endpoint, context);
  context.set_deadline(
      GrpcDeadline(std::max(impl_->options.timeout, kSubmitTimeout)));
  v1::PutArtifactResponse response;
  const auto writer = impl_->stub->PutArtifact(&context, &response);
  v1::ArtifactChunk chunk;
  chunk.set_digest(Digest::Of(bytes).bytes());
  chunk.set_total_size(bytes.size());
  size_t offset = 0;
  do {  // an empty artifact is one empty chunk
    const absl::string_view piece = bytes.substr(offset, kChunkBytes);
    chunk.set_offset(offset);
    chunk.set_data(piece.data(), piece.size());
    if (!writer->Write(chunk)) {
      break;  // Finish says why
    }
    chunk.Clear();
    offset += piece.size();
  } while (offset < bytes.size());
  writer->WritesDone();
  const absl::Status status = FromGrpcStatus(writer->Finish());
  if (!status.ok()) {
    return Explain(impl_->endpoint, status);
  }
  return response;
}

absl::Status CoordinatorClient::WatchJob(
    const v1::WatchJobRequest& request,
    absl::FunctionRef<bool(const v1::WatchEvent&)> on_event,
    absl::Duration timeout) {
  grpc::ClientContext context;
  AddToken(impl_->endpoint, context);
  if (timeout < absl::InfiniteDuration()) {
    context.set_deadline(GrpcDeadline(timeout));
  }
  const auto reader = impl_->stub->WatchJob(&context, request);
  return impl_->Drain<v1::WatchEvent>(context, *reader, on_event);
}

absl::Status CoordinatorClient::ExportMeasurements(
    const v1::ExportMeasurementsRequest& request,
    absl::FunctionRef<bool(const v1::MeasurementBatch&)> on_batch) {
  grpc::ClientContext context;
  AddToken(impl_->endpoint, context);
  const auto reader = impl_->stub->ExportMeasurements(&context, request);
  return impl_->Drain<v1::MeasurementBatch>(context, *reader, on_batch);
}

}  // namespace qsweep
