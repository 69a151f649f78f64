#ifndef QSWEEP_COORDINATOR_SERVICE_CORPUS_REACTOR_H_
#define QSWEEP_COORDINATOR_SERVICE_CORPUS_REACTOR_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include <grpcpp/support/server_callback.h>

#include "coordinator/loop.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Of all parts together: a million documents.
inline constexpr size_t kMaxCorpusBytes = size_t{64} << 20;

// One AddCorpus call: puts the parts together and posts them to the loop. It
// deletes itself when gRPC is done with it. caller: or why it may not; then
// nothing is read. INVALID_ARGUMENT QS1004: larger than
// kMaxCorpusBytes. response is gRPC's; loop outlives the call.
grpc::ServerReadReactor<v1::AddCorpusRequest>* NewAddCorpusReactor(
    Loop& loop, v1::AddCorpusResponse* response, absl::StatusOr<Caller> caller);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_CORPUS_REACTOR_H_
