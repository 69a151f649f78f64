#include "common/job/model_description_proto.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

absl::Status FieldError(absl::string_view field) {
  return MakeError(kBadValue,
                   absl::StrCat("the model description has a bad ", field),
                   field);
}

// A count that fits an int; validation says the rest.
absl::StatusOr<int> ToInt(uint32_t value, absl::string_view field) {
  if (value > static_cast<uint32_t>(std::numeric_limits<int>::max())) {
    return FieldError(field);
  }
  return static_cast<int>(value);
}

absl::StatusOr<TensorDescription> TensorFromProto(
    const v1::TensorDescription& proto, const std::string& field) {
  const std::optional<Component> component = ParseComponent(proto.component());
  if (!component) {
    return FieldError(absl::StrCat(field, ".component"));
  }
  TensorDescription tensor{.name = proto.name(),
                           .layer = proto.layer(),
                           .component = *component,
                           .bias = proto.bias(),
                           .stored_bits = proto.stored_bits()};
  for (const uint64_t size : proto.shape()) {
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return FieldError(absl::StrCat(field, ".shape"));
    }
    tensor.shape.push_back(static_cast<int64_t>(size));
  }
  return tensor;
}

}  // namespace

v1::ModelDescription ToProto(const ModelDescription& model) {
  v1::ModelDescription proto;
  proto.set_digest(model.digest.bytes());
  proto.set_tokenizer_digest(model.tokenizer_digest.bytes());
  proto.set_name(model.name);
  proto.set_family(model.family);
  proto.set_layers(static_cast<uint32_t>(model.layers));
  proto.set_hidden_size(static_cast<uint32_t>(model.hidden_size));
  proto.set_vocabulary_size(static_cast<uint32_t>(model.vocabulary_size));
  proto.set_context_length(static_cast<uint32_t>(model.context_length));
  proto.set_tied_head(model.tied_head);
  proto.set_prequantized(model.prequantized);
  for (const TensorDescription& tensor : model.tensors) {
    v1::TensorDescription& out = *proto.add_tensors();
    out.set_name(tensor.name);
    out.set_layer(tensor.layer);
    out.set_component(std::string(ComponentName(tensor.component)));
    out.set_bias(tensor.bias);
    for (const int64_t size : tensor.shape) {
      out.add_shape(static_cast<uint64_t>(size));
    }
    out.set_stored_bits(tensor.stored_bits);
  }
  return proto;
}

absl::StatusOr<ModelDescription> FromProto(const v1::ModelDescription& proto) {
  const auto digest = Digest::FromBytes(proto.digest());
  if (!digest.ok()) {
    return FieldError("digest");
  }
  const auto tokenizer_digest = Digest::FromBytes(proto.tokenizer_digest());
  if (!tokenizer_digest.ok()) {
    return FieldError("tokenizer_digest");
  }
  ModelDescription model{.digest = *digest,
                         .tokenizer_digest = *tokenizer_digest,
                         .name = proto.name(),
                         .family = proto.family(),
                         .tied_head = proto.tied_head(),
                         .prequantized = proto.prequantized()};
  QSWEEP_ASSIGN_OR_RETURN(model.layers, ToInt(proto.layers(), "layers"));
  QSWEEP_ASSIGN_OR_RETURN(model.hidden_size,
                          ToInt(proto.hidden_size(), "hidden_size"));
  QSWEEP_ASSIGN_OR_RETURN(model.vocabulary_size,
                          ToInt(proto.vocabulary_size(), "vocabulary_size"));
  QSWEEP_ASSIGN_OR_RETURN(model.context_length,
                          ToInt(proto.context_length(), "context_length"));
  for (int i = 0; i < proto.tensors_size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(
        TensorDescription tensor,
        TensorFromProto(proto.tensors(i), absl::StrCat("tensors[", i, "]")));
    model.tensors.push_back(std::move(tensor));
  }
  QSWEEP_RETURN_IF_ERROR(ValidateModelDescription(model));
  return model;
}

}  // namespace qsweep
