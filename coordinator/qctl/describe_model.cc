#include "coordinator/qctl/describe_model.h"

#include <unistd.h>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/error_json.h"
#include "common/base/status_macros.h"
#include "common/job/model_description_json.h"
#include "coordinator/qctl/process.h"

namespace qsweep::qctl {
namespace {

// The error the engine ended with; lines of its log come before.
absl::Status EngineError(const ProgramResult& result, const std::string& path) {
  if (const auto status = ParseErrorJson(result.err)) {
    return *status;
  }
  return MakeError(kModelNotFound,
                   absl::StrCat("qengine cannot describe the model (exit code ",
                                result.exit_code,
                                "): ", absl::StripAsciiWhitespace(result.err)),
                   path);
}

}  // namespace

absl::StatusOr<ModelDescription> DescribeModel(const std::string& binary_dir,
                                               const std::string& path,
                                               const std::string& of) {
  const std::string engine = binary_dir + "/qengine";
  if (access(engine.c_str(), X_OK) != 0) {
    return MakeError(
        kEngineMissing, "qengine, which reads models, is not beside qctl",
        engine,
        "build it (it needs libtorch), or run qctl from the folder "
        "it is in");
  }
  std::vector<std::string> command = {engine, "describe", "--model",
                                      path,   "-o",       "json"};
  if (!of.empty()) {
    command.insert(command.end(), {"--of", of});
  }
  QSWEEP_ASSIGN_OR_RETURN(const ProgramResult result, RunProgram(command));
  if (result.exit_code != 0) {
    return EngineError(result, path);
  }
  return ParseModelDescriptionJson(result.out);
}

}  // namespace qsweep::qctl
