#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_COMMANDS_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_COMMANDS_H_

#include <vector>

#include "coordinator/qctl/command.h"

namespace qsweep::qctl {

// The commands of each file of this folder, in the order of the help.
std::vector<Command> ClusterCommands();  // up, down, status
std::vector<Command> CorporaCommands();
std::vector<Command> SubmitCommands();
std::vector<Command> JobsCommands();
std::vector<Command> TasksCommands();
std::vector<Command> WorkersCommands();
std::vector<Command> WatchCommands();        // watch, wait
std::vector<Command> ResultsCommands();      // results, plot, report
std::vector<Command> DataCommands();         // query, export
std::vector<Command> AdminCommands();        // admin backup, check, gc
std::vector<Command> RotateTokenCommands();  // admin rotate-token
std::vector<Command> TokensCommands();
std::vector<Command> LoginCommands();
std::vector<Command> HelpCommands();  // help, docs, version

// Headings of the help, in its order.
inline constexpr char kStartGroup[] = "Start";
inline constexpr char kRunGroup[] = "Run";
inline constexpr char kLookGroup[] = "Look";
inline constexpr char kAnswerGroup[] = "Answer";
inline constexpr char kAccessGroup[] = "Access";
inline constexpr char kOtherGroup[] = "Other";
inline constexpr const char* kGroups[] = {kStartGroup,  kRunGroup,
                                          kLookGroup,   kAnswerGroup,
                                          kAccessGroup, kOtherGroup};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMANDS_COMMANDS_H_
