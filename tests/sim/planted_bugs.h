#ifndef QSWEEP_TESTS_SIM_PLANTED_BUGS_H_
#define QSWEEP_TESTS_SIM_PLANTED_BUGS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qsweep::sim {

// The switches of the second compilation. Before any simulation starts.
// False: no bug of that name.
bool PlantBug(absl::string_view name);
std::vector<std::string> BugNames();

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_PLANTED_BUGS_H_
