#include "coordinator/qctl/output/value.h"

#include <array>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qsweep::qctl {

std::string ShortestText(double number) {
  std::array<char, 32> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return std::string(buffer.data(), end);
}

std::string UtcText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

std::string PlainText(const Value& value) {
  struct Visitor {
    std::string operator()(std::monostate) const { return ""; }
    std::string operator()(bool truth) const {
      return truth ? "true" : "false";
    }
    std::string operator()(int64_t number) const {
      return absl::StrCat(number);
    }
    std::string operator()(double number) const { return ShortestText(number); }
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(absl::Time time) const { return UtcText(time); }
    std::string operator()(const Value::List& list) const {
      return absl::StrJoin(list, ",", [](std::string* out, const Value& item) {
        absl::StrAppend(out, PlainText(item));
      });
    }
    std::string operator()(const Value::Object& object) const {
      return absl::StrJoin(object, ",", [](std::string* out, const auto& pair) {
        absl::StrAppend(out, pair.first, "=", PlainText(pair.second));
      });
    }
  };
  return std::visit(Visitor(), value.variant());
}

}  // namespace qsweep::qctl
