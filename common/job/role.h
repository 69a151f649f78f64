#ifndef QSWEEP_COMMON_JOB_ROLE_H_
#define QSWEEP_COMMON_JOB_ROLE_H_

#include "absl/strings/string_view.h"

#include "qsweep/v1/access.pb.h"

namespace qsweep {

// "read", "submit", "worker", "admin"; "" for none.
absl::string_view RoleName(v1::Role role);

// ROLE_UNSPECIFIED: no role has that name.
v1::Role RoleOf(absl::string_view name);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_ROLE_H_
