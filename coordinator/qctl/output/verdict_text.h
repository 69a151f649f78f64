#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_VERDICT_TEXT_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_VERDICT_TEXT_H_

#include <string>
#include <vector>

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// A panel in three sentences: how far it can be trusted, which languages lose
// more than the reference, which layers matter. unit: "article".
std::vector<std::string> VerdictSentences(const v1::ResultPanel& panel,
                                          const std::string& reference,
                                          const std::string& unit);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_VERDICT_TEXT_H_
