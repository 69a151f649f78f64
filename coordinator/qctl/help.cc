#include "coordinator/qctl/help.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "coordinator/qctl/commands/commands.h"

namespace qsweep::qctl {
namespace {

constexpr size_t kWidth = 80;
constexpr size_t kIndent = 2;

// "  left      right right right", wrapped so that right stays in its column.
std::string TwoColumns(
    const std::vector<std::pair<std::string, std::string>>& lines,
    size_t widest) {
  size_t left = 0;
  for (const auto& [name, text] : lines) {
    if (name.size() <= widest) {
      left = std::max(left, name.size());
    }
  }
  std::string out;
  const std::string margin(kIndent + left + 2, ' ');
  for (const auto& [name, text] : lines) {
    std::string line = std::string(kIndent, ' ') + name;
    if (name.size() > left) {
      absl::StrAppend(&out, line, "\n");
      line = margin;
    } else {
      line.resize(margin.size(), ' ');
    }
    for (const absl::string_view word : absl::StrSplit(text, ' ')) {
      if (line.size() + word.size() > kWidth && line.size() > margin.size()) {
        line.erase(line.find_last_not_of(' ') + 1);
        absl::StrAppend(&out, line, "\n");
        line = margin;
      }
      absl::StrAppend(&line, word, " ");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string FlagText(const Flag& flag) {
  return absl::StrCat(
      flag.letter == 0 ? "    "
                       : absl::StrCat("-", std::string(1, flag.letter), ", "),
      "--", flag.name, flag.value.empty() ? "" : " ", flag.value,
      flag.repeated && !absl::EndsWith(flag.value, "...") ? " ..." : "");
}

std::string FlagMeaning(const Flag& flag) {
  return flag.choices.empty()
             ? flag.help
             : absl::StrCat(flag.help, ": ", absl::StrJoin(flag.choices, ", "));
}

std::string FlagList(std::span<const Flag> flags) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const Flag& flag : flags) {
    lines.emplace_back(FlagText(flag), FlagMeaning(flag));
  }
  return TwoColumns(lines, 28);
}

std::string Usage(const Command& command) {
  std::string usage = absl::StrCat("qctl ", command.name());
  for (const Positional& positional : command.positionals) {
    absl::StrAppend(&usage, " ", positional.required ? "" : "[",
                    positional.name, positional.repeated ? "..." : "",
                    positional.required ? "" : "]");
  }
  if (!command.flags.empty()) {
    absl::StrAppend(&usage, " [flags]");
  }
  return usage;
}

std::string ExampleList(const std::vector<Example>& examples) {
  std::string out;
  for (const Example& example : examples) {
    absl::StrAppend(&out, "  ", example.line, "\n");
    if (!example.meaning.empty()) {
      absl::StrAppend(&out, "      ", example.meaning, "\n");
    }
  }
  return out;
}

// Commands under a heading each, in the order they stand in.
std::string CommandList(const std::vector<const Command*>& commands) {
  std::vector<std::pair<std::string, std::string>> lines;
  std::string out;
  for (const char* group : kGroups) {
    lines.clear();
    for (const Command* command : commands) {
      if (command->group == group) {
        lines.emplace_back(command->name(), command->summary);
      }
    }
    if (!lines.empty()) {
      absl::StrAppend(&out, "\n", group, "\n", TwoColumns(lines, 20));
    }
  }
  return out;
}

}  // namespace

std::string GeneralHelp() {
  std::vector<const Command*> commands;
  for (const Command& command : AllCommands()) {
    commands.push_back(&command);
  }
  return absl::StrCat(
      "qctl runs layer sweeps of quantized language models on a coordinator "
      "and its\nworkers, and shows which layers hurt which language.\n\n"
      "Examples\n",
      ExampleList(
          {{"qctl up", "start a coordinator and a worker in ./.qsweep"},
           {"qctl corpora add udhr ./udhr --languages eng,deu_1996,arb",
            "upload texts"},
           {"qctl submit layer-sweep --model ./SmolLM2-135M --corpus udhr \\\n"
            "      --reference eng --quantizer rtn:bits=4,group=64 --wait",
            "measure every layer protected alone"},
           {"qctl results last --by layer", "which layers matter"}}),
      CommandList(commands), "\nGlobal flags\n", FlagList(GlobalFlags()),
      "\nhelp topics: ", absl::StrJoin(HelpTopics(), ", "),
      "   (qctl help TOPIC)\n");
}

std::string CommandHelp(const Command& command) {
  std::string out = absl::StrCat(command.summary, "\n\nExamples\n",
                                 ExampleList(command.examples), "\nUsage\n  ",
                                 Usage(command), "\n");
  if (!command.positionals.empty()) {
    std::vector<std::pair<std::string, std::string>> lines;
    for (const Positional& positional : command.positionals) {
      lines.emplace_back(positional.name, positional.help);
    }
    absl::StrAppend(&out, "\n", TwoColumns(lines, 28));
  }
  if (!command.flags.empty()) {
    absl::StrAppend(&out, "\nFlags\n", FlagList(command.flags));
  }
  if (!command.notes.empty()) {
    absl::StrAppend(&out, "\n", command.notes, "\n");
  }
  absl::StrAppend(&out, "\nGlobal flags: qctl --help\n");
  return out;
}

std::string GroupHelp(const std::vector<std::string>& path) {
  std::vector<const Command*> commands;
  std::vector<Example> examples;
  for (const Command& command : AllCommands()) {
    if (command.path.size() > path.size() &&
        std::equal(path.begin(), path.end(), command.path.begin())) {
      commands.push_back(&command);
      examples.push_back(command.examples.at(0));
    }
  }
  return absl::StrCat("Examples\n", ExampleList(examples),
                      CommandList(commands), "\nMore: qctl ",
                      absl::StrJoin(path, " "), " COMMAND --help\n");
}

std::string CliReference() {
  std::string out = absl::StrCat(
      "# Command line\n\nWritten by `qctl help reference`; a test compares "
      "them. Exit codes and the shape of\n`-o json` are under [Exit "
      "codes](#exit-codes) and [JSON](#json).\n\n## qctl\n\n```\n",
      GeneralHelp(), "```\n");
  for (const Command& command : AllCommands()) {
    absl::StrAppend(&out, "\n## qctl ", command.name(), "\n\n```\n",
                    CommandHelp(command), "```\n");
  }
  const std::pair<const char*, const char*> topics[] = {
      {"selectors", "Selectors"},
      {"exit-codes", "Exit codes"},
      {"json", "JSON"},
      {"environment", "Environment"},
      {"spec", "Spec file"}};
  for (const auto& [topic, title] : topics) {
    absl::StrAppend(&out, "\n## ", title, "\n\n```\n", TopicHelp(topic).value(),
                    "```\n");
  }
  return out;
}

}  // namespace qsweep::qctl
