#ifndef QSWEEP_WORKER_TOKENIZER_JSON_FIELDS_H_
#define QSWEEP_WORKER_TOKENIZER_JSON_FIELDS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "simdjson.h"

namespace qsweep {

// The text of a JSON string; nothing for any other value.
std::optional<std::string> JsonText(simdjson::dom::element element);

// Typed access to a JSON object of tokenizer.json, whose errors name the place
// ("pre_tokenizer.pretokenizers[0]") and the file. Absent and null are the
// same. Borrows the parsed document. For the .cc files of this folder only.
class JsonFields {
 public:
  JsonFields(simdjson::dom::object object, std::string place,
             const std::string* file)
      : object_(object), place_(std::move(place)), file_(file) {}

  std::optional<simdjson::dom::element> Find(const char* key) const;
  bool Has(const char* key) const { return Find(key).has_value(); }

  // DATA_LOSS QS3003: of another type, or missing where there is no default.
  absl::StatusOr<std::string> Text(const char* key) const;
  absl::StatusOr<std::string> Text(const char* key,
                                   absl::string_view otherwise) const;
  absl::StatusOr<bool> Bool(const char* key, bool otherwise) const;
  absl::StatusOr<int32_t> Id(const char* key) const;  // from 0
  absl::StatusOr<JsonFields> Object(const char* key) const;
  // The elements of a list, each an object.
  absl::StatusOr<std::vector<JsonFields>> Objects(const char* key) const;

  // QS3003 and QS3005 about this place.
  absl::Status Corrupt(absl::string_view what) const;
  absl::Status Unsupported(absl::string_view what) const;

  simdjson::dom::object object() const { return object_; }
  const std::string& place() const { return place_; }
  const std::string* file() const { return file_; }

 private:
  std::string PlaceOf(absl::string_view key) const;

  simdjson::dom::object object_;
  std::string place_;
  const std::string* file_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_JSON_FIELDS_H_
