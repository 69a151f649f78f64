#ifndef QSWEEP_COORDINATOR_QCTL_HELP_H_
#define QSWEEP_COORDINATOR_QCTL_HELP_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/qctl/command.h"

namespace qsweep::qctl {

// `qctl --help`: how to start, then every command in a line.
std::string GeneralHelp();

// `qctl COMMAND --help`: examples first.
std::string CommandHelp(const Command& command);

// `qctl NOUN --help`: the commands below it.
std::string GroupHelp(const std::vector<std::string>& path);

// `qctl help TOPIC`. NOT_FOUND QS1061 with a suggestion.
absl::StatusOr<std::string> TopicHelp(absl::string_view topic);
std::vector<std::string> HelpTopics();

// docs/reference/cli.md: the help of everything.
std::string CliReference();

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_HELP_H_
