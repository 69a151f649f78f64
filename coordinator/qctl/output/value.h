#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_VALUE_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_VALUE_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace qsweep::qctl {

// What a command shows, before anybody decided how: null, a truth value, a
// number, a text, a point of time, a list, or an object whose members keep
// their order. Value type.
class Value {
 public:
  using List = std::vector<Value>;
  using Object = std::vector<std::pair<std::string, Value>>;
  using Variant = std::variant<std::monostate, bool, int64_t, double,
                               std::string, absl::Time, List, Object>;

  Value() = default;  // null
  template <typename T>
    requires std::same_as<T, bool>
  Value(T truth) : variant_(truth) {}  // NOLINT(google-explicit-constructor)
  template <typename T>
    requires(std::integral<T> && !std::same_as<T, bool>)
  Value(T number)  // NOLINT(google-explicit-constructor)
      : variant_(static_cast<int64_t>(number)) {}
  Value(double number) : variant_(number) {}                      // NOLINT
  Value(std::string text) : variant_(std::move(text)) {}          // NOLINT
  Value(const char* text) : variant_(std::string(text)) {}        // NOLINT
  Value(absl::string_view text) : variant_(std::string(text)) {}  // NOLINT
  Value(absl::Time time) : variant_(time) {}                      // NOLINT
  Value(List list) : variant_(std::move(list)) {}                 // NOLINT
  Value(Object object) : variant_(std::move(object)) {}           // NOLINT

  const Variant& variant() const { return variant_; }
  bool null() const { return std::holds_alternative<std::monostate>(variant_); }

 private:
  Variant variant_;
};

// Shortest text that reads back as the same double; "nan", "inf", "-inf".
std::string ShortestText(double number);

// "2026-08-01T12:00:00.250Z".
std::string UtcText(absl::Time time);

// One line without decoration, for csv, tsv, md and plain cells: null is "",
// lists are joined by ",", objects are "k=v" joined by ",".
std::string PlainText(const Value& value);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_VALUE_H_
