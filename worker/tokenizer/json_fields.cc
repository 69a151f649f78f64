#include "worker/tokenizer/json_fields.h"

#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {

namespace dom = simdjson::dom;

std::optional<std::string> JsonText(dom::element element) {
  const auto text = element.get_string();
  if (text.error() != simdjson::SUCCESS) {
    return std::nullopt;
  }
  return std::string(text.value_unsafe());
}

std::string JsonFields::PlaceOf(absl::string_view key) const {
  return place_.empty() ? std::string(key) : absl::StrCat(place_, ".", key);
}

absl::Status JsonFields::Corrupt(absl::string_view what) const {
  return MakeError(
      kCorruptModel,
      absl::StrCat(place_.empty() ? "the tokenizer" : place_, ": ", what),
      *file_, "Download the model again.");
}

absl::Status JsonFields::Unsupported(absl::string_view what) const {
  return MakeError(
      kUnsupportedTokenizer,
      absl::StrCat(place_.empty() ? "the tokenizer" : place_, ": ", what,
                   " is not supported"),
      *file_,
      "Supported: BPE with NFC, Prepend, Replace; ByteLevel, Split, Digits, "
      "Metaspace; TemplateProcessing; Sequence of these.");
}

std::optional<dom::element> JsonFields::Find(const char* key) const {
  dom::element element;
  if (object_[key].get(element) != simdjson::SUCCESS || element.is_null()) {
    return std::nullopt;
  }
  return element;
}

absl::StatusOr<std::string> JsonFields::Text(const char* key) const {
  const std::optional<dom::element> element = Find(key);
  std::optional<std::string> value =
      element ? JsonText(*element) : std::nullopt;
  if (!value) {
    return Corrupt(absl::StrCat(key, " is missing or not a text"));
  }
  return *std::move(value);
}

absl::StatusOr<std::string> JsonFields::Text(
    const char* key, absl::string_view otherwise) const {
  return Has(key) ? Text(key) : std::string(otherwise);
}

absl::StatusOr<bool> JsonFields::Bool(const char* key, bool otherwise) const {
  const std::optional<dom::element> element = Find(key);
  bool value = otherwise;
  if (element && element->get(value) != simdjson::SUCCESS) {
    return Corrupt(absl::StrCat(key, " is neither true nor false"));
  }
  return value;
}

absl::StatusOr<int32_t> JsonFields::Id(const char* key) const {
  const std::optional<dom::element> element = Find(key);
  int64_t value = -1;
  if (!element || element->get(value) != simdjson::SUCCESS || value < 0 ||
      value >= std::numeric_limits<int32_t>::max()) {
    return Corrupt(absl::StrCat(key, " is missing or no token id"));
  }
  return static_cast<int32_t>(value);
}

absl::StatusOr<JsonFields> JsonFields::Object(const char* key) const {
  const std::optional<dom::element> element = Find(key);
  dom::object object;
  if (!element || element->get(object) != simdjson::SUCCESS) {
    return Corrupt(absl::StrCat(key, " is missing or not an object"));
  }
  return JsonFields(object, PlaceOf(key), file_);
}

absl::StatusOr<std::vector<JsonFields>> JsonFields::Objects(
    const char* key) const {
  const std::optional<dom::element> element = Find(key);
  dom::array array;
  if (!element || element->get(array) != simdjson::SUCCESS) {
    return Corrupt(absl::StrCat(key, " is missing or not a list"));
  }
  std::vector<JsonFields> objects;
  for (const dom::element item : array) {
    dom::object object;
    if (item.get(object) != simdjson::SUCCESS) {
      return Corrupt(
          absl::StrCat(key, "[", objects.size(), "] is not an object"));
    }
    objects.emplace_back(
        object, absl::StrCat(PlaceOf(key), "[", objects.size(), "]"), file_);
  }
  return objects;
}

}  // namespace qsweep
