#include "common/base/error_json.h"

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "common/base/error.h"

namespace qsweep {

std::string FormatErrorAsJson(const absl::Status& status) {
  using Json = nlohmann::ordered_json;
  const ErrorInfo info = GetErrorInfo(status).value_or(ErrorInfo());
  const Json document = {{"schema", "qctl/v1"},
                         {"kind", "Error"},
                         {"code", info.code},
                         {"message", std::string(status.message())},
                         {"field", info.field},
                         {"hint", info.hint},
                         {"exit", static_cast<int>(ExitCodeOf(status))}};
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

namespace {

// A member's text; empty when there is none.
std::string TextOf(const nlohmann::json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

std::optional<absl::Status> ParseErrorJson(absl::string_view text) {
  std::optional<absl::Status> found;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const auto json =
        nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_object() || TextOf(json, "kind") != "Error") {
      continue;
    }
    for (const ErrorCode* code : AllErrorCodes()) {
      if (TextOf(json, "code") == code->code) {
        found = MakeError(*code, TextOf(json, "message"), TextOf(json, "field"),
                          TextOf(json, "hint"));
      }
    }
  }
  return found;
}

bool WantsJson(std::span<const std::string> arguments) {
  const auto is_document = [](absl::string_view format) {
    return absl::StartsWith(format, "json") || absl::StartsWith(format, "yaml");
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if ((argument == "-o" || argument == "--output") &&
        i + 1 < arguments.size() && is_document(arguments[i + 1])) {
      return true;
    }
    absl::string_view format = argument;
    if ((absl::ConsumePrefix(&format, "--output=") ||
         absl::ConsumePrefix(&format, "-o")) &&
        is_document(format)) {
      return true;
    }
  }
  return false;
}

}  // namespace qsweep
