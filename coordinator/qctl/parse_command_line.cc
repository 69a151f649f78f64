#include <algorithm>
#include <map>
#include <utility>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"
#include "coordinator/qctl/command.h"

namespace qsweep::qctl {
namespace {

constexpr char kDefaultVerb[] = "list";

// Singular and short forms of nouns and verbs.
std::string Canonical(const std::string& word) {
  static const std::map<std::string, std::string> aliases = {
      {"job", "jobs"},       {"j", "jobs"},         {"task", "tasks"},
      {"t", "tasks"},        {"worker", "workers"}, {"w", "workers"},
      {"corpus", "corpora"}, {"c", "corpora"},      {"ls", "list"},
      {"get", "show"},       {"describe", "show"},  {"result", "results"},
      {"token", "tokens"},
  };
  const auto found = aliases.find(word);
  return found == aliases.end() ? word : found->second;
}

// Words that may follow `path`.
std::vector<std::string> NextWords(const std::vector<std::string>& path) {
  std::vector<std::string> words;
  for (const Command& command : AllCommands()) {
    if (command.path.size() > path.size() &&
        std::equal(path.begin(), path.end(), command.path.begin()) &&
        std::find(words.begin(), words.end(), command.path[path.size()]) ==
            words.end()) {
      words.push_back(command.path[path.size()]);
    }
  }
  return words;
}

const Command* FindCommand(const std::vector<std::string>& path) {
  for (const Command& command : AllCommands()) {
    if (command.path == path) {
      return &command;
    }
  }
  return nullptr;
}

bool IsFlag(const std::string& arg) { return arg.size() > 1 && arg[0] == '-'; }

// The global flag arg is, or null. has_value: it is written --flag=value.
const Flag* FindGlobalFlag(const std::string& arg, bool& has_value) {
  const size_t equals = arg.find('=');
  has_value = equals != std::string::npos;
  const std::string bare = arg.substr(0, equals);
  for (const Flag& flag : GlobalFlags()) {
    if (bare == absl::StrCat("--", flag.name) ||
        (flag.letter != 0 && bare == std::string({'-', flag.letter}))) {
      return &flag;
    }
  }
  return nullptr;
}

absl::Status UnknownWord(const std::vector<std::string>& path,
                         const std::string& word,
                         const std::vector<std::string>& words) {
  const std::string where = absl::StrJoin(path, " ");
  return MakeError(kBadCommandLine,
                   path.empty()
                       ? absl::StrCat("no command \"", word, "\"")
                       : absl::StrCat("no \"", word, "\" under qctl ", where),
                   word, DidYouMeanHint(word, words));
}

// Takes the command's words out of args; flags before and between stay.
absl::Status TakePath(std::vector<std::string>& args, Parsed& parsed) {
  size_t i = 0;
  while (i < args.size()) {
    bool has_value = false;
    if (IsFlag(args[i])) {
      const Flag* flag = FindGlobalFlag(args[i], has_value);
      if (flag == nullptr) {
        return absl::OkStatus();
      }
      i += flag->value.empty() || has_value ? 1 : 2;
      continue;
    }
    const std::vector<std::string> words = NextWords(parsed.path);
    if (words.empty()) {
      return absl::OkStatus();
    }
    const std::string word = Canonical(args[i]);
    if (std::find(words.begin(), words.end(), word) == words.end()) {
      return UnknownWord(parsed.path, args[i], words);
    }
    parsed.path.push_back(word);
    args.erase(args.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return absl::OkStatus();
}

void AddFlag(const Flag& flag, CLI::App& app, Arguments& arguments) {
  std::string names = absl::StrCat("--", flag.name);
  if (flag.letter != 0) {
    absl::StrAppend(&names, ",-", std::string(1, flag.letter));
  }
  const std::string name = flag.name;
  if (flag.value.empty()) {
    app.add_flag_callback(names,
                          [&arguments, name] { arguments.Add(name, "true"); });
    return;
  }
  CLI::Option* option =
      app.add_option(names, [&arguments, name](const CLI::results_t& results) {
        for (const std::string& result : results) {
          arguments.Add(name, result);
        }
        return true;
      });
  option->type_size(1)->expected(1)->allow_extra_args(false);
  if (flag.repeated) {
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
}

std::vector<std::string> FlagNames(const Command& command) {
  std::vector<std::string> names;
  for (const std::span<const Flag> flags :
       {std::span<const Flag>(command.flags), GlobalFlags()}) {
    for (const Flag& flag : flags) {
      names.push_back(absl::StrCat("--", flag.name));
    }
  }
  return names;
}

absl::Status TakePositionals(const Command& command,
                             const std::vector<std::string>& rest,
                             Arguments& arguments) {
  size_t next = 0;
  for (const Positional& positional : command.positionals) {
    do {
      if (next < rest.size()) {
        arguments.Add(positional.name, rest[next++]);
      }
    } while (positional.repeated && next < rest.size());
    if (positional.required && !arguments.Has(positional.name)) {
      return MakeError(
          kBadCommandLine,
          absl::StrCat("qctl ", command.name(), " needs ", positional.name),
          positional.name,
          command.examples.empty()
              ? ""
              : absl::StrCat("for example: ", command.examples[0].line));
    }
  }
  if (next < rest.size()) {
    return MakeError(kBadCommandLine,
                     absl::StrCat("qctl ", command.name(), " does not take \"",
                                  rest[next], "\""),
                     rest[next],
                     absl::StrCat("see qctl ", command.name(), " --help"));
  }
  return absl::OkStatus();
}

absl::Status CheckChoices(std::span<const Flag> flags,
                          const Arguments& arguments) {
  for (const Flag& flag : flags) {
    for (const std::string& value : arguments.GetAll(flag.name)) {
      if (!flag.choices.empty() &&
          std::find(flag.choices.begin(), flag.choices.end(), value) ==
              flag.choices.end()) {
        return MakeError(kBadValue,
                         absl::StrCat("\"", value, "\" is none of ",
                                      absl::StrJoin(flag.choices, ", ")),
                         absl::StrCat("--", flag.name),
                         DidYouMeanHint(value, flag.choices));
      }
    }
  }
  return absl::OkStatus();
}

// CLI11 reads the flags; what it leaves are the positionals.
absl::StatusOr<std::vector<std::string>> ReadFlags(
    const Command& command, std::vector<std::string> args,
    Arguments& arguments) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  for (const Flag& flag : command.flags) {
    AddFlag(flag, app, arguments);
  }
  for (const Flag& flag : GlobalFlags()) {
    const bool shadowed =
        std::any_of(command.flags.begin(), command.flags.end(),
                    [&](const Flag& own) { return own.name == flag.name; });
    if (!shadowed) {
      AddFlag(flag, app, arguments);
    }
  }
  try {
    std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
    app.parse(std::move(args));
    return app.remaining();
  } catch (const CLI::Error& error) {
    return MakeError(kBadCommandLine, error.what(), "",
                     absl::StrCat("see qctl ", command.name(), " --help"));
  }
}

}  // namespace

absl::StatusOr<Parsed> ParseCommandLine(const std::vector<std::string>& args) {
  Parsed parsed;
  const auto end = std::find(args.begin(), args.end(), "--");
  parsed.help = std::any_of(args.begin(), end, [](const std::string& arg) {
    return arg == "--help" || arg == "-h";
  });
  std::vector<std::string> rest = args;
  QSWEEP_RETURN_IF_ERROR(TakePath(rest, parsed));
  parsed.command = FindCommand(parsed.path);
  if (parsed.help) {
    return parsed;
  }
  if (parsed.command == nullptr && !parsed.path.empty()) {
    std::vector<std::string> listing = parsed.path;
    listing.emplace_back(kDefaultVerb);
    parsed.command = FindCommand(listing);
  }
  if (parsed.command == nullptr) {
    if (!rest.empty()) {
      return MakeError(kBadCommandLine,
                       absl::StrCat("no command before \"", rest[0], "\""),
                       rest[0], "see qctl --help");
    }
    return parsed;
  }
  const Command& command = *parsed.command;
  QSWEEP_ASSIGN_OR_RETURN(
      std::vector<std::string> positionals,
      ReadFlags(command, std::move(rest), parsed.arguments));
  for (const std::string& word : positionals) {
    if (IsFlag(word)) {
      return MakeError(
          kBadCommandLine,
          absl::StrCat("qctl ", command.name(), " has no flag ", word), word,
          DidYouMeanHint(word.substr(0, word.find('=')), FlagNames(command)));
    }
  }
  QSWEEP_RETURN_IF_ERROR(CheckChoices(command.flags, parsed.arguments));
  QSWEEP_RETURN_IF_ERROR(CheckChoices(GlobalFlags(), parsed.arguments));
  QSWEEP_RETURN_IF_ERROR(
      TakePositionals(command, positionals, parsed.arguments));
  return parsed;
}

}  // namespace qsweep::qctl
