#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_CLOSING_SCREEN_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_CLOSING_SCREEN_H_

#include <string>
#include <vector>

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What the caller of RenderClosingScreen knows beside the results.
struct ClosingOptions {
  std::string unit = "unit";  // what a unit of the corpus is: "article"
  std::vector<std::string> next_commands;  // to type next, best first
};

// What a finished job says last, in words: first what the sample cannot say,
// then the gaps between languages, the layers that can be told from the
// average layer and those that cannot, how many more units that would take,
// and the next command.
std::string RenderClosingScreen(const v1::GetResultsResponse& results,
                                const ClosingOptions& options);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_CLOSING_SCREEN_H_
