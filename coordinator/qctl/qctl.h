#ifndef QSWEEP_COORDINATOR_QCTL_QCTL_H_
#define QSWEEP_COORDINATOR_QCTL_QCTL_H_

#include <string>
#include <vector>

#include "coordinator/qctl/environment.h"

namespace qsweep::qctl {

// Runs one qctl command line, args without the program's name: data on
// environment.out, messages and errors on environment.err. Returns the exit
// code (common/base/error.h). START HERE; commands are in commands/, one file
// per noun, and what they print is made in output/.
int RunQctl(const std::vector<std::string>& args,
            const Environment& environment);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_QCTL_H_
