#ifndef QSWEEP_COORDINATOR_QCTL_TOKEN_RATES_H_
#define QSWEEP_COORDINATOR_QCTL_TOKEN_RATES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/rpc/coordinator_client.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// How each model of the spec cuts each of its languages: the tokenizer of
// `qengine`, which lies in binary_dir, over samples that the coordinator gives.
// Errors: the coordinator's, also UNIMPLEMENTED of one that is older, and the
// engine's.
absl::StatusOr<std::vector<v1::TokenRate>> MeasureTokenRates(
    CoordinatorClient& client, const std::string& binary_dir,
    const v1::JobSpec& spec);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_TOKEN_RATES_H_
