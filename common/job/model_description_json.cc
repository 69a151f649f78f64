#include "common/job/model_description_json.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

using Json = nlohmann::json;

constexpr size_t kLargestText = size_t{64} << 20;

absl::Status FieldError(absl::string_view field) {
  return MakeError(
      kBadValue,
      absl::StrCat("the model description has no usable \"", field, "\""),
      field);
}

absl::StatusOr<std::string> GetString(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string()) {
    return FieldError(field);
  }
  return found->get<std::string>();
}

absl::StatusOr<bool> GetBool(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_boolean()) {
    return FieldError(field);
  }
  return found->get<bool>();
}

absl::StatusOr<int> GetInt(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_number_integer()) {
    return FieldError(field);
  }
  const int64_t value = found->get<int64_t>();
  if (value != static_cast<int>(value)) {
    return FieldError(field);
  }
  return static_cast<int>(value);
}

absl::StatusOr<Digest> GetDigest(const Json& object, const char* field) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string hex, GetString(object, field));
  absl::StatusOr<Digest> digest = Digest::FromHex(hex);
  if (!digest.ok()) {
    return FieldError(field);
  }
  return digest;
}

absl::StatusOr<TensorDescription> ParseTensor(const Json& object) {
  if (!object.is_object()) {
    return FieldError("tensors");
  }
  TensorDescription tensor;
  QSWEEP_ASSIGN_OR_RETURN(tensor.name, GetString(object, "name"));
  QSWEEP_ASSIGN_OR_RETURN(tensor.layer, GetInt(object, "layer"));
  QSWEEP_ASSIGN_OR_RETURN(tensor.bias, GetBool(object, "bias"));
  QSWEEP_ASSIGN_OR_RETURN(const std::string component,
                          GetString(object, "component"));
  const std::optional<Component> known = ParseComponent(component);
  const auto shape = object.find("shape");
  const auto bits = object.find("stored_bits");
  if (!known || shape == object.end() || !shape->is_array() ||
      bits == object.end() || !bits->is_number()) {
    return FieldError("tensors");
  }
  tensor.component = *known;
  tensor.stored_bits = bits->get<double>();
  for (const Json& size : *shape) {
    if (!size.is_number_integer()) {
      return FieldError("shape");
    }
    tensor.shape.push_back(size.get<int64_t>());
  }
  return tensor;
}

absl::StatusOr<ModelDescription> ParseModel(const Json& object) {
  ModelDescription model;
  QSWEEP_ASSIGN_OR_RETURN(model.digest, GetDigest(object, "digest"));
  QSWEEP_ASSIGN_OR_RETURN(model.tokenizer_digest,
                          GetDigest(object, "tokenizer_digest"));
  QSWEEP_ASSIGN_OR_RETURN(model.name, GetString(object, "name"));
  QSWEEP_ASSIGN_OR_RETURN(model.family, GetString(object, "family"));
  QSWEEP_ASSIGN_OR_RETURN(model.layers, GetInt(object, "layers"));
  QSWEEP_ASSIGN_OR_RETURN(model.hidden_size, GetInt(object, "hidden_size"));
  QSWEEP_ASSIGN_OR_RETURN(model.vocabulary_size,
                          GetInt(object, "vocabulary_size"));
  QSWEEP_ASSIGN_OR_RETURN(model.context_length,
                          GetInt(object, "context_length"));
  QSWEEP_ASSIGN_OR_RETURN(model.tied_head, GetBool(object, "tied_head"));
  QSWEEP_ASSIGN_OR_RETURN(model.prequantized,
                          GetString(object, "prequantized"));
  const auto tensors = object.find("tensors");
  if (tensors == object.end() || !tensors->is_array()) {
    return FieldError("tensors");
  }
  for (const Json& item : *tensors) {
    QSWEEP_ASSIGN_OR_RETURN(TensorDescription tensor, ParseTensor(item));
    model.tensors.push_back(std::move(tensor));
  }
  QSWEEP_RETURN_IF_ERROR(ValidateModelDescription(model));
  return model;
}

}  // namespace

std::string FormatModelDescriptionJson(const ModelDescription& model) {
  // ordered_json: readers see what matters first.
  using Ordered = nlohmann::ordered_json;
  Ordered tensors = Ordered::array();
  for (const TensorDescription& tensor : model.tensors) {
    tensors.push_back(
        {{"name", tensor.name},
         {"layer", tensor.layer},
         {"component", std::string(ComponentName(tensor.component))},
         {"bias", tensor.bias},
         {"shape", tensor.shape},
         {"stored_bits", tensor.stored_bits}});
  }
  const Ordered item = {{"name", model.name},
                        {"family", model.family},
                        {"layers", model.layers},
                        {"parameters", model.num_parameters()},
                        {"hidden_size", model.hidden_size},
                        {"vocabulary_size", model.vocabulary_size},
                        {"context_length", model.context_length},
                        {"tied_head", model.tied_head},
                        {"prequantized", model.prequantized},
                        {"digest", model.digest.hex()},
                        {"tokenizer_digest", model.tokenizer_digest.hex()},
                        {"tensors", std::move(tensors)}};
  const Ordered document = {{"schema", "qctl/v1"},
                            {"kind", "ModelDescription"},
                            {"items", Ordered::array({item})}};
  return document.dump(1, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

absl::StatusOr<ModelDescription> ParseModelDescriptionJson(
    absl::string_view text) {
  if (text.size() > kLargestText) {
    return MakeError(kMalformedDocument,
                     "the model description is longer than 64 MiB");
  }
  const Json document = Json::parse(text.begin(), text.end(), nullptr,
                                    /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return MakeError(kMalformedDocument, "the model description is not JSON");
  }
  const auto items = document.find("items");
  if (document.value("schema", Json()) != "qctl/v1" ||
      document.value("kind", Json()) != "ModelDescription" ||
      items == document.end() || !items->is_array() || items->size() != 1 ||
      !items->front().is_object()) {
    return MakeError(kMalformedDocument,
                     "the document is not one ModelDescription of qctl/v1", "",
                     "Use a qengine of the same version.");
  }
  return ParseModel(items->front());
}

}  // namespace qsweep
