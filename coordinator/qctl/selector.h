#ifndef QSWEEP_COORDINATOR_QCTL_SELECTOR_H_
#define QSWEEP_COORDINATOR_QCTL_SELECTOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace qsweep::qctl {

// Writes ranges out: "10-12" -> 10, 11, 12; "2-10:4" -> 2, 6, 10. Everything
// else (numbers, "last", names, UUIDs, "job/<uuid>") stays: the coordinator
// knows what they name. INVALID_ARGUMENT QS1004: a range that is empty or
// longer than 1,000.
absl::StatusOr<std::vector<std::string>> ExpandSelectors(
    const std::vector<std::string>& selectors);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_SELECTOR_H_
