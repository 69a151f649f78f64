#include "coordinator/qctl/describe_model.h"

#include <optional>
#include <unistd.h>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/model_description_json.h"
#include "coordinator/qctl/process.h"

namespace qsweep::qctl {
namespace {

// What FormatErrorForPeople made a text of, as a status again; nothing when
// the text is not such.
std::optional<absl::Status> ReadErrorText(absl::string_view text,
                                          const std::string& path) {
  if (!absl::ConsumePrefix(&text, "error[")) {
    return std::nullopt;
  }
  const std::pair<absl::string_view, absl::string_view> code_and_rest =
      absl::StrSplit(text, absl::MaxSplits("]: ", 1));
  const std::pair<absl::string_view, absl::string_view> line_and_hint =
      absl::StrSplit(code_and_rest.second, absl::MaxSplits("\n  hint: ", 1));
  const std::pair<absl::string_view, absl::string_view> message_and_field =
      absl::StrSplit(line_and_hint.first, absl::MaxSplits("   at ", 1));
  for (const ErrorCode* code : AllErrorCodes()) {
    if (code_and_rest.first == code->code) {
      return MakeError(
          *code, message_and_field.first,
          message_and_field.second.empty() ? path : message_and_field.second,
          line_and_hint.second);
    }
  }
  return std::nullopt;
}

// The error the engine ended with; lines of its log come before.
absl::Status EngineError(const ProgramResult& result, const std::string& path) {
  const std::string err(absl::StripAsciiWhitespace(result.err));
  const size_t begin = err.rfind("error[");
  if (begin != std::string::npos) {
    if (const auto status = ReadErrorText(err.substr(begin), path)) {
      return *status;
    }
  }
  return MakeError(kModelNotFound,
                   absl::StrCat("qengine cannot describe the model (exit code ",
                                result.exit_code, "): ", err),
                   path);
}

}  // namespace

absl::StatusOr<ModelDescription> DescribeModel(const std::string& binary_dir,
                                               const std::string& path) {
  const std::string engine = binary_dir + "/qengine";
  if (access(engine.c_str(), X_OK) != 0) {
    return MakeError(
        kEngineMissing, "qengine, which reads models, is not beside qctl",
        engine,
        "build it (it needs libtorch), or run qctl from the folder "
        "it is in");
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const ProgramResult result,
      RunProgram({engine, "describe", "--model", path, "-o", "json"}));
  if (result.exit_code != 0) {
    return EngineError(result, path);
  }
  return ParseModelDescriptionJson(result.out);
}

}  // namespace qsweep::qctl
