#include <algorithm>
#include <array>
#include <string>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {
namespace {

constexpr std::array<absl::string_view, 10> kWords = {
    "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"};

// Whether every reader takes the text for itself without quotes.
bool IsPlain(absl::string_view text) {
  return !text.empty() &&
         absl::ascii_isalpha(static_cast<unsigned char>(text.front())) &&
         std::ranges::all_of(
             text,
             [](char c) {
               return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                      absl::StrContains("_-./@+=", c);
             }) &&
         std::ranges::none_of(kWords, [&](absl::string_view word) {
           return absl::EqualsIgnoreCase(word, text);
         });
}

// A JSON scalar is a YAML one.
std::string Scalar(const Value& value) {
  const auto* text = std::get_if<std::string>(&value.variant());
  return text != nullptr && IsPlain(*text) ? *text : JsonText(value);
}

void Append(const Value& value, size_t indent, std::string& yaml);

// What stands behind "name:" or "-": on the same line, or below, deeper.
void AppendAfter(const Value& value, size_t indent, std::string& yaml) {
  const auto* list = std::get_if<Value::List>(&value.variant());
  const auto* object = std::get_if<Value::Object>(&value.variant());
  if ((list != nullptr && !list->empty()) ||
      (object != nullptr && !object->empty())) {
    yaml += "\n";
    Append(value, indent, yaml);
  } else {
    absl::StrAppend(&yaml, " ",
                    list != nullptr     ? "[]"
                    : object != nullptr ? "{}"
                                        : Scalar(value),
                    "\n");
  }
}

void Append(const Value& value, size_t indent, std::string& yaml) {
  const std::string margin(indent, ' ');
  if (const auto* list = std::get_if<Value::List>(&value.variant())) {
    for (const Value& item : *list) {
      const size_t begin = yaml.size() + indent;
      absl::StrAppend(&yaml, margin, "-");
      AppendAfter(item, indent + 2, yaml);
      // "-\n  name: x" is "- name: x".
      if (yaml[begin + 1] == '\n') {
        yaml.erase(begin + 1, indent + 2);
      }
    }
  } else if (const auto* object =
                 std::get_if<Value::Object>(&value.variant())) {
    for (const auto& [name, member] : *object) {
      absl::StrAppend(&yaml, margin, Scalar(name), ":");
      AppendAfter(member, indent + 2, yaml);
    }
  }
}

}  // namespace

std::string YamlText(const Value& value) {
  std::string yaml;
  const bool scalar = !std::holds_alternative<Value::List>(value.variant()) &&
                      !std::holds_alternative<Value::Object>(value.variant());
  if (scalar) {
    return Scalar(value) + "\n";
  }
  Append(value, 0, yaml);
  return yaml;
}

}  // namespace qsweep::qctl
