#ifndef QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_
#define QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"

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

// The SHA-256 of the certificate authority that clients are shown now; empty:
// there is none. Errors: ReadCertificates'. Thread-safe.
using AuthorityDigest = std::function<absl::StatusOr<Digest>()>;

// qctl's calls on the callback API: each handler unpacks, posts to the loop or
// to a reader thread, and returns. certificate_authority is for join tokens.
// The other arguments outlive the service.
std::unique_ptr<grpc::Service> MakeCoordinatorService(
    Loop& loop, ReaderPool& readers, AnalysisCache& cache,
    AnalysisThread& analysis, const Authenticator& authenticator,
    AuthorityDigest certificate_authority);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_COORDINATOR_SERVICE_H_
