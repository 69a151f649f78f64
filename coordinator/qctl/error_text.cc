#include "coordinator/qctl/error_text.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"

namespace qsweep::qctl {

std::optional<absl::Status> FindErrorText(absl::string_view text,
                                          const std::string& field) {
  const size_t begin = text.rfind("error[");
  if (begin == absl::string_view::npos) {
    return std::nullopt;
  }
  text = absl::StripAsciiWhitespace(text.substr(begin));
  absl::ConsumePrefix(&text, "error[");
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
          message_and_field.second.empty() ? field : message_and_field.second,
          line_and_hint.second);
    }
  }
  return std::nullopt;
}

}  // namespace qsweep::qctl
