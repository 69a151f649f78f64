#include "coordinator/qctl/qctl.h"

#include <ostream>
#include <utility>

#include "common/base/clock.h"
#include "common/base/error_json.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "coordinator/qctl/command.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/help.h"

namespace qsweep::qctl {
namespace {

// NO_COLOR (no-color.org) and TERM=dumb count unless the user says --color.
bool WantsColor(const Environment& environment, const Arguments& arguments) {
  const std::string when = arguments.Get("color");
  if (when == "always" || when == "never") {
    return when == "always";
  }
  return environment.out_is_terminal && environment.Get("NO_COLOR").empty() &&
         environment.Get("TERM") != "dumb";
}

absl::StatusOr<OutputStyle> MakeStyle(const Environment& environment,
                                      const Arguments& arguments) {
  OutputStyle style;
  if (arguments.Has("output")) {
    QSWEEP_ASSIGN_OR_RETURN(style.format,
                            ParseOutputFormat(arguments.Get("output")));
  }
  style.header = !arguments.Has("no-header");
  style.columns = arguments.GetList("columns");
  style.width = environment.out_is_terminal ? environment.width : 0;
  style.color = WantsColor(environment, arguments);
  style.now = Clock::Real().Now();
  return style;
}

absl::StatusOr<ExitCode> Run(const Parsed& parsed,
                             const Environment& environment) {
  if (parsed.help || parsed.command == nullptr) {
    if (parsed.command != nullptr) {
      *environment.out << CommandHelp(*parsed.command);
    } else {
      *environment.out << (parsed.path.empty() ? GeneralHelp()
                                               : GroupHelp(parsed.path));
    }
    return ExitCode::kOk;
  }
  QSWEEP_ASSIGN_OR_RETURN(OutputStyle style,
                          MakeStyle(environment, parsed.arguments));
  Context context(environment, parsed.arguments, std::move(style));
  return parsed.command->run(context);
}

void PrintError(const absl::Status& status, bool json, std::ostream& err) {
  if (json) {
    err << FormatErrorAsJson(status) << std::flush;
    return;
  }
  err << FormatErrorForPeople(status) << "\n";
  const ErrorInfo info = GetErrorInfo(status).value_or(ErrorInfo());
  if (!info.code.empty()) {
    err << "  help: qctl docs " << info.code << "\n";
  }
  err << std::flush;
}

}  // namespace

int RunQctl(const std::vector<std::string>& args,
            const Environment& environment) {
  if (!args.empty() && args[0] == "--version") {
    *environment.out << "qctl " << kVersion << " (" << kRevision << ")\n";
    return 0;
  }
  absl::StatusOr<Parsed> parsed = ParseCommandLine(args);
  absl::StatusOr<ExitCode> code =
      parsed.ok() ? Run(*parsed, environment) : parsed.status();
  if (code.ok()) {
    return static_cast<int>(*code);
  }
  PrintError(code.status(), WantsJson(args), *environment.err);
  return static_cast<int>(ExitCodeOf(code.status()));
}

}  // namespace qsweep::qctl
