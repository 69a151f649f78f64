#ifndef QSWEEP_COORDINATOR_QCTL_COMMAND_H_
#define QSWEEP_COORDINATOR_QCTL_COMMAND_H_

#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/error.h"

namespace qsweep::qctl {

class Context;

// An option of a command: --name, or -letter.
struct Flag {
  std::string name;   // "dir"
  char letter = 0;    // 0: none
  std::string value;  // "DIR", for the help; empty: a switch without a value
  std::string help;
  bool repeated = false;             // may be given several times
  std::vector<std::string> choices;  // the only values; empty: any
};

struct Positional {
  std::string name;  // "JOB"
  std::string help;
  bool required = true;
  bool repeated = false;  // the last one only
};

struct Example {
  std::string line;  // "qctl jobs list"
  std::string meaning;
};

// What qctl can do, as data: parsing, help, the reference page and the
// suggestions for typos all read it.
struct Command {
  std::vector<std::string> path;  // {"jobs", "list"}
  std::string group;              // heading in `qctl --help`
  std::string summary;            // a sentence
  std::vector<Example> examples;
  std::vector<Positional> positionals;
  std::vector<Flag> flags;  // besides the global ones
  std::string notes;        // paragraphs after the flags
  // Prints through the context. The exit code when nothing failed.
  absl::StatusOr<ExitCode> (*run)(Context& context) = nullptr;

  std::string name() const;  // "jobs list"
};

// Every command, in the order of the help. Lives as long as the process.
std::span<const Command> AllCommands();

// Flags every command takes.
std::span<const Flag> GlobalFlags();

// What the user typed after a command's name.
class Arguments {
 public:
  bool Has(absl::string_view name) const;
  // The value of a flag or positional; "" when not given.
  std::string Get(absl::string_view name) const;
  std::vector<std::string> GetAll(absl::string_view name) const;
  // Comma-separated values of all occurrences: "a,b" "c" -> a, b, c.
  std::vector<std::string> GetList(absl::string_view name) const;
  // INVALID_ARGUMENT QS1004: not an integer from low to high.
  absl::StatusOr<int64_t> GetInteger(absl::string_view name, int64_t otherwise,
                                     int64_t low, int64_t high) const;
  // "300s", "5m", "1h30m", "30d", "300" (seconds). INVALID_ARGUMENT QS1004.
  absl::StatusOr<absl::Duration> GetDuration(absl::string_view name,
                                             absl::Duration otherwise) const;

  void Add(absl::string_view name, std::string value);

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

// A command line taken apart.
struct Parsed {
  const Command* command = nullptr;  // null: no command was named
  std::vector<std::string> path;     // as far as it was named: {"jobs"}
  Arguments arguments;
  bool help = false;
};

// Finds the command (singular, plural and short nouns; a noun alone lists) and
// reads its flags. args: without the program's name. INVALID_ARGUMENT QS1060
// with a suggestion: unknown command or flag, missing or surplus argument.
absl::StatusOr<Parsed> ParseCommandLine(const std::vector<std::string>& args);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMAND_H_
