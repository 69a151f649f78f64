#include "worker/model/config_fields.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "worker/tokenizer/json_fields.h"

namespace qsweep {

namespace dom = simdjson::dom;

absl::StatusOr<simdjson::dom::object> ParseConfigObject(
    absl::string_view json, const std::string& file,
    simdjson::dom::parser& parser) {
  simdjson::dom::element document;
  simdjson::dom::object object;
  if (json.empty() ||
      parser.parse(json.data(), json.size()).get(document) !=
          simdjson::SUCCESS ||
      document.get(object) != simdjson::SUCCESS) {
    return MakeError(kCorruptModel, "the file is not a JSON object", file,
                     "Download the model again.");
  }
  return object;
}

absl::Status BadConfig(const std::string& file, absl::string_view what) {
  return MakeError(kBadModelConfig, what, file,
                   "Correct the file or download the model again.");
}

std::optional<dom::element> ConfigFields::Find(const char* key) const {
  dom::element element;
  if (object_[key].get(element) != simdjson::SUCCESS || element.is_null()) {
    return std::nullopt;
  }
  return element;
}

absl::StatusOr<int> ConfigFields::Int(const char* key,
                                      std::optional<int> otherwise) const {
  const std::optional<dom::element> element = Find(key);
  if (!element) {
    return otherwise ? absl::StatusOr<int>(*otherwise)
                     : BadConfig(file_, absl::StrCat("no ", key));
  }
  int64_t value = 0;
  if (element->get(value) != simdjson::SUCCESS || value < 0 ||
      value > std::numeric_limits<int>::max()) {
    return BadConfig(file_, absl::StrCat(key,
                                         " is no integer from 0 to "
                                         "2147483647"));
  }
  return static_cast<int>(value);
}

absl::StatusOr<double> ConfigFields::Double(
    const char* key, std::optional<double> otherwise) const {
  const std::optional<dom::element> element = Find(key);
  if (!element) {
    return otherwise ? absl::StatusOr<double>(*otherwise)
                     : BadConfig(file_, absl::StrCat("no ", key));
  }
  double value = 0;
  if (element->get(value) != simdjson::SUCCESS) {
    return BadConfig(file_, absl::StrCat(key, " is not a number"));
  }
  return value;
}

absl::StatusOr<bool> ConfigFields::Bool(const char* key, bool otherwise) const {
  const std::optional<dom::element> element = Find(key);
  bool value = otherwise;
  if (element && element->get(value) != simdjson::SUCCESS) {
    return BadConfig(file_, absl::StrCat(key, " is neither true nor false"));
  }
  return value;
}

absl::StatusOr<std::string> ConfigFields::Text(
    const char* key, absl::string_view otherwise) const {
  const std::optional<dom::element> element = Find(key);
  if (!element) {
    return std::string(otherwise);
  }
  std::optional<std::string> value = JsonText(*element);
  if (!value) {
    return BadConfig(file_, absl::StrCat(key, " is not a text"));
  }
  return *std::move(value);
}

absl::StatusOr<std::optional<ConfigFields>> ConfigFields::Object(
    const char* key) const {
  const std::optional<dom::element> element = Find(key);
  if (!element) {
    return std::optional<ConfigFields>();
  }
  dom::object object;
  if (element->get(object) != simdjson::SUCCESS) {
    return BadConfig(file_, absl::StrCat(key, " is not an object"));
  }
  return std::optional<ConfigFields>(ConfigFields(object, file_));
}

}  // namespace qsweep
