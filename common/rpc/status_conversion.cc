#include "common/rpc/status_conversion.h"

#include <grpcpp/support/status.h>

#include "common/base/error.h"
#include "common/rpc/failure.h"
#include "qsweep/v1/task.pb.h"

namespace qsweep {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  const v1::Failure failure = FailureFromStatus(status, false);
  return grpc::Status(
      static_cast<grpc::StatusCode>(failure.status_code()), failure.message(),
      failure.has_detail() ? failure.detail().SerializeAsString()
                           : std::string());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  v1::Failure failure;
  failure.set_status_code(static_cast<int>(status.error_code()));
  failure.set_message(status.error_message());
  v1::ErrorDetail detail;
  if (!status.error_details().empty() &&
      detail.ParseFromString(status.error_details())) {
    *failure.mutable_detail() = detail;
  }
  return StatusFromFailure(failure);
}

}  // namespace qsweep
