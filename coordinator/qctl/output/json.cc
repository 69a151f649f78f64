#include "nlohmann/json.hpp"

#include <cmath>

#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const Value& value) {
  struct Visitor {
    Json operator()(std::monostate) const { return nullptr; }
    Json operator()(bool truth) const { return truth; }
    Json operator()(int64_t number) const { return number; }
    Json operator()(double number) const {
      return std::isfinite(number) ? Json(number) : Json(nullptr);
    }
    Json operator()(const std::string& text) const { return text; }
    Json operator()(absl::Time time) const { return UtcText(time); }
    Json operator()(const Value::List& list) const {
      Json json = Json::array();
      for (const Value& item : list) {
        json.push_back(ToJson(item));
      }
      return json;
    }
    Json operator()(const Value::Object& object) const {
      Json json = Json::object();
      for (const auto& [name, member] : object) {
        json[name] = ToJson(member);
      }
      return json;
    }
  };
  return std::visit(Visitor(), value.variant());
}

// Bytes that are not UTF-8 become U+FFFD: a document must not fail for a name.
std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string JsonText(const Value& value) { return Dump(ToJson(value), -1); }

std::string JsonDocument(const Value& value) {
  return Dump(ToJson(value), 2) + "\n";
}

}  // namespace qsweep::qctl
