#ifndef QSWEEP_COMMON_BASE_ERROR_JSON_H_
#define QSWEEP_COMMON_BASE_ERROR_JSON_H_

#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// An error as every program prints it on stderr under `-o json`: one line, an
// object with schema, kind, code, message, field, hint, exit. Bytes that are
// not UTF-8 become U+FFFD. status must not be OK.
std::string FormatErrorAsJson(const absl::Status& status);

// The last error of FormatErrorAsJson among the lines of `text`; nothing when
// there is none with a code of the registry.
std::optional<absl::Status> ParseErrorJson(absl::string_view text);

// Whether a command line asks for JSON, or for YAML, which a line of JSON is,
// too: before its arguments may be valid.
// arguments: without the program's name.
bool WantsJson(std::span<const std::string> arguments);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_ERROR_JSON_H_
