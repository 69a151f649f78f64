#include <iterator>
#include <utility>

#include "coordinator/qctl/commands/commands.h"

namespace qsweep::qctl {

std::span<const Command> AllCommands() {
  static const std::vector<Command> commands = [] {
    std::vector<Command> all;
    for (auto* of :
         {&ClusterCommands, &CorporaCommands, &SubmitCommands, &WatchCommands,
          &JobsCommands, &TasksCommands, &WorkersCommands, &ResultsCommands,
          &DataCommands, &TokensCommands, &LoginCommands, &AdminCommands,
          &RotateTokenCommands, &HelpCommands}) {
      std::vector<Command> some = of();
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    return all;
  }();
  return commands;
}

}  // namespace qsweep::qctl
