#ifndef QSWEEP_WORKER_MODEL_CONFIG_FIELDS_H_
#define QSWEEP_WORKER_MODEL_CONFIG_FIELDS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "simdjson.h"

namespace qsweep {

// DATA_LOSS QS3011 about a configuration file.
absl::Status BadConfig(const std::string& file, absl::string_view what);

// The one object of a configuration file; lives as long as the parser, until
// its next use. DATA_LOSS QS3003: it is not one.
absl::StatusOr<simdjson::dom::object> ParseConfigObject(
    absl::string_view json, const std::string& file,
    simdjson::dom::parser& parser);

// Typed access to the fields of one JSON object of a configuration file; absent
// and null are the same. Borrows the parsed document and file. For the .cc
// files of this folder only. Errors: QS3011, also for a field that is missing
// where there is no default.
class ConfigFields {
 public:
  ConfigFields(simdjson::dom::object object, const std::string& file)
      : object_(object), file_(file) {}

  std::optional<simdjson::dom::element> Find(const char* key) const;
  absl::StatusOr<int> Int(const char* key,  // from 0
                          std::optional<int> otherwise) const;
  absl::StatusOr<double> Double(const char* key,
                                std::optional<double> otherwise) const;
  absl::StatusOr<bool> Bool(const char* key, bool otherwise) const;
  absl::StatusOr<std::string> Text(const char* key,
                                   absl::string_view otherwise) const;
  absl::StatusOr<std::optional<ConfigFields>> Object(const char* key) const;

  simdjson::dom::object object() const { return object_; }
  const std::string& file() const { return file_; }

 private:
  simdjson::dom::object object_;
  const std::string& file_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CONFIG_FIELDS_H_
