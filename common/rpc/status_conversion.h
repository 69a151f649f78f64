#ifndef QSWEEP_COMMON_RPC_STATUS_CONVERSION_H_
#define QSWEEP_COMMON_RPC_STATUS_CONVERSION_H_

#include "absl/status/status.h"

namespace grpc {
class Status;
}  // namespace grpc

namespace qsweep {

// The same code and message; the ErrorInfo of MakeError travels as a serialized
// qsweep.v1.ErrorDetail in the status details. Include
// <grpcpp/support/status.h> to use the result.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The inverse. Details that are not an ErrorDetail are dropped.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_STATUS_CONVERSION_H_
