#ifndef QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_
#define QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_

#include <memory>

#include "common/base/digest.h"
#include "coordinator/loop.h"
#include "coordinator/service/analysis_thread.h"
#include "coordinator/service/authenticator.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/reader.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace qsweep {

// qctl's calls on the callback API: each handler unpacks, posts to the loop or
// to a reader thread, and returns. certificate_authority: its SHA-256, for join
// tokens; empty: there is none. The other arguments outlive the service.
std::unique_ptr<grpc::Service> MakeCoordinatorService(
    Loop& loop, ReaderPool& readers, AnalysisCache& cache,
    AnalysisThread& analysis, const Authenticator& authenticator,
    const Digest& certificate_authority);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_
