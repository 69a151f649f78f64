#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_SPEC_FLAGS_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_SPEC_FLAGS_H_

#include <vector>

#include "absl/status/statusor.h"

#include "coordinator/qctl/context.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep::qctl {

// The flags that say what a job measures. many_models: --models too, and
// --model several times.
std::vector<Flag> SpecFlags(bool many_models);

// The spec those flags describe, defaults filled in; ValidateJobSpec says
// whether it makes sense. INVALID_ARGUMENT QS1004, the flag as field.
absl::StatusOr<v1::JobSpec> SpecFromFlags(const Context& context,
                                          v1::JobKind kind);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMANDS_SPEC_FLAGS_H_
