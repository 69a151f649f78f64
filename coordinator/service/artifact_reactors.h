#ifndef QSWEEP_COORDINATOR_SERVICE_ARTIFACT_REACTORS_H_
#define QSWEEP_COORDINATOR_SERVICE_ARTIFACT_REACTORS_H_

#include "absl/status/status.h"
#include <grpcpp/support/server_callback.h>

#include "coordinator/loop.h"
#include "coordinator/store/reader.h"
#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// One artifact, collected in memory until its digest can be checked.
inline constexpr uint64_t kMaxArtifactBytes = uint64_t{256} << 20;
inline constexpr uint64_t kArtifactChunkBytes = uint64_t{1} << 20;

// Both delete themselves at the end of their stream. allowed: not OK ends the
// stream with it.

// Collects the chunks and posts the whole to the loop. INVALID_ARGUMENT QS4042:
// a gap, too many bytes, another digest than announced.
grpc::ServerReadReactor<v1::ArtifactChunk>* NewPutArtifactReactor(
    Loop& loop, v1::PutArtifactResponse* response, const absl::Status& allowed);

// Sends the artifact from request.offset on, read in parts on reader threads.
grpc::ServerWriteReactor<v1::ArtifactChunk>* NewGetArtifactReactor(
    ReaderPool& readers, const v1::GetArtifactRequest& request,
    const absl::Status& allowed);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_ARTIFACT_REACTORS_H_
