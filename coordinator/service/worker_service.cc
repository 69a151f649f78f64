#include "coordinator/service/worker_service.h"

#include <utility>

#include "coordinator/service/artifact_reactors.h"
#include "coordinator/service/attach_reactor.h"
#include "coordinator/service/forward.h"
#include "qsweep/v1/worker.grpc.pb.h"

namespace qsweep {
namespace {

using Context = grpc::CallbackServerContext;
using UnaryReactor = grpc::ServerUnaryReactor;

class WorkerServiceImpl : public v1::WorkerService::CallbackService {
 public:
  WorkerServiceImpl(Loop& loop, ReaderPool& readers,
                    const Authenticator& authenticator)
      : loop_(loop), readers_(readers), authenticator_(authenticator) {}

  grpc::ServerBidiReactor<v1::WorkerState, v1::DesiredState>* Attach(
      Context* context) override {
    return NewAttachReactor(loop_, authenticator_.CallerOf(*context, "Attach"));
  }
  UnaryReactor* Synchronize(Context* context, const v1::WorkerState* request,
                            v1::DesiredState* response) override {
    return Forward(context, "Synchronize", *request, response);
  }
  UnaryReactor* CommitResult(Context* context,
                             const v1::CommitResultRequest* request,
                             v1::CommitResultResponse* response) override {
    return Forward(context, "CommitResult", *request, response);
  }
  UnaryReactor* ReleaseTask(Context* context,
                            const v1::ReleaseTaskRequest* request,
                            v1::ReleaseTaskResponse* response) override {
    return Forward(context, "ReleaseTask", *request, response);
  }
  grpc::ServerWriteReactor<v1::ArtifactChunk>* GetArtifact(
      Context* context, const v1::GetArtifactRequest* request) override {
    return NewGetArtifactReactor(
        readers_, *request,
        authenticator_.CallerOf(*context, "GetArtifact").status());
  }

 private:
  template <typename Request, typename Response>
  UnaryReactor* Forward(Context* context, absl::string_view method,
                        const Request& request, Response* response) {
    return ForwardToLoop(loop_, authenticator_, context, method, request,
                         response);
  }

  Loop& loop_;
  ReaderPool& readers_;
  const Authenticator& authenticator_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(
    Loop& loop, ReaderPool& readers, const Authenticator& authenticator) {
  return std::make_unique<WorkerServiceImpl>(loop, readers, authenticator);
}

}  // namespace qsweep
