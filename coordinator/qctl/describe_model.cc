#include "coordinator/qctl/describe_model.h"

#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/model_description_json.h"
#include "coordinator/qctl/process.h"

namespace qsweep::qctl {
namespace {

// The last line that is a JSON error of a program run with -o json; else the
// text as it is.
absl::Status EngineError(const ProgramResult& result, const std::string& path) {
  const std::string err(absl::StripAsciiWhitespace(result.err));
  const std::string last = err.substr(err.find_last_of('\n') + 1);
  const nlohmann::json json =
      nlohmann::json::parse(last, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) {
    const auto text = [&](const char* name) {
      const auto member = json.find(name);
      return member != json.end() && member->is_string()
                 ? member->get<std::string>()
                 : std::string();
    };
    for (const ErrorCode* code : AllErrorCodes()) {
      if (text("code") == code->code) {
        return MakeError(*code, text("message"),
                         text("field").empty() ? path : text("field"),
                         text("hint"));
      }
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
