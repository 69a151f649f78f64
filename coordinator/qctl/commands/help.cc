#include "coordinator/qctl/help.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "common/job/did_you_mean.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"

namespace qsweep::qctl {
namespace {

constexpr char kReferenceTopic[] = "reference";  // writes docs/reference/cli.md

absl::StatusOr<ExitCode> Help(Context& context) {
  const std::string topic = context.arguments().Get("TOPIC");
  if (topic.empty()) {
    context.PrintRaw(GeneralHelp());
    return ExitCode::kOk;
  }
  if (topic == kReferenceTopic) {
    context.PrintRaw(CliReference());
    return ExitCode::kOk;
  }
  for (const Command& command : AllCommands()) {
    if (command.name() == topic) {
      context.PrintRaw(CommandHelp(command));
      return ExitCode::kOk;
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, TopicHelp(topic));
  context.PrintRaw(text);
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Docs(Context& context) {
  const std::string wanted =
      absl::AsciiStrToUpper(context.arguments().Get("CODE"));
  Table table;
  table.kind = "ErrorCodeList";
  table.record = !wanted.empty();
  table.columns = {
      {"code", wanted.empty() ? "CODE" : "code"},
      {"title", wanted.empty() ? "MEANING" : "meaning"},
      {"exit", wanted.empty() ? "EXIT" : "exit code", Form::kNumber}};
  std::vector<std::string> codes;
  for (const ErrorCode* code : AllErrorCodes()) {
    codes.emplace_back(code->code);
    if (wanted.empty() || wanted == code->code) {
      table.rows.push_back(
          {code->code, code->title, static_cast<int>(code->exit_code)});
    }
  }
  if (table.rows.empty()) {
    return MakeError(kUnknownTopic,
                     absl::StrCat("no error code \"", wanted, "\""), "CODE",
                     DidYouMeanHint(wanted, codes));
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Version(Context& context) {
  Table table;
  table.kind = "Version";
  table.record = true;
  table.columns = {{"version", "qctl"}, {"revision", "revision"}};
  table.rows = {{kVersion, kRevision}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> HelpCommands() {
  return {
      {.path = {"help"},
       .group = kOtherGroup,
       .summary = "Explains a topic or a command.",
       .examples = {{"qctl help selectors", ""},
                    {"qctl help exit-codes", ""},
                    {"qctl help", "all commands and topics"}},
       .positionals = {{"TOPIC",
                        "selectors, exit-codes, json, environment, spec, or a "
                        "command",
                        false}},
       .run = Help},
      {.path = {"docs"},
       .group = kOtherGroup,
       .summary = "Says what an error code means.",
       .examples = {{"qctl docs QS4001", ""}, {"qctl docs", "all codes"}},
       .positionals = {{"CODE", "QSxxxx", false}},
       .run = Docs},
      {.path = {"version"},
       .group = kOtherGroup,
       .summary = "Prints version and revision.",
       .examples = {{"qctl version", ""}, {"qctl version -o json", ""}},
       .run = Version},
  };
}

}  // namespace qsweep::qctl
