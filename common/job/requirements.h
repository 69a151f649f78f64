#ifndef QSWEEP_COMMON_JOB_REQUIREMENTS_H_
#define QSWEEP_COMMON_JOB_REQUIREMENTS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "qsweep/v1/job.pb.h"

namespace qsweep {

// What a job asks of the workers that run it, as people write it:
// "gpu=T4,vram>=14GiB,compute>=7.5". A second gpu is another that will do.

// INVALID_ARGUMENT QS1004, field "policy.require".
absl::StatusOr<v1::Requirements> ParseRequirements(absl::string_view text);

// One of them: "gpu", "vram" (a ParseByteSize) or "compute". Errors: as
// ParseRequirements.
absl::Status SetRequirement(absl::string_view key, absl::string_view value,
                            v1::Requirements& require);

// Limits of each value. Errors: as ParseRequirements.
absl::Status CheckRequirements(const v1::Requirements& require);

// For a spec: "{gpu: [\"T4\"], vram: 15032385536, compute: 7.5}"; "" when
// nothing is asked for.
std::string FormatRequirements(const v1::Requirements& require);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_REQUIREMENTS_H_
