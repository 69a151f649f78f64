#include "worker/model/config_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "simdjson.h"
#include "worker/model/config_fields.h"
#include "worker/model/families.h"
#include "worker/model/rope_factors.h"

namespace qsweep {
namespace {

namespace dom = simdjson::dom;

// What ValidateModelDescription lets through: the tensors of a model are listed
// before any is looked for.
constexpr int kMostLayers = 10'000;

constexpr char kRopeHint[] =
    "Add the base the model was trained with; guessing it would change every "
    "result.";

absl::Status Unsupported(const std::string& file, absl::string_view what) {
  return MakeError(kUnsupportedArchitecture, what, file,
                   absl::StrCat("Supported: ", FamilyNames(),
                                " with rotary embeddings (plain or llama3 "
                                "scaling), SiLU and no biases."));
}

absl::Status NoRopeBase(const std::string& file, absl::string_view key) {
  return MakeError(kNoRopeBase, absl::StrCat("no ", key), file, kRopeHint);
}

// The checks that hold for every source of a configuration.
absl::Status CheckConfig(const ModelConfig& config, const std::string& file) {
  const std::pair<const char*, int> sizes[] = {
      {"the number of layers", config.layers},
      {"the hidden size", config.hidden_size},
      {"the intermediate size", config.intermediate_size},
      {"the number of attention heads", config.heads},
      {"the number of key/value heads", config.kv_heads},
      {"the head size", config.head_dim},
      {"the vocabulary size", config.vocabulary_size},
      {"the context length", config.context_length},
  };
  for (const auto& [name, value] : sizes) {
    if (value <= 0) {
      return BadConfig(file, absl::StrCat(name, " is ", value));
    }
  }
  if (config.layers > kMostLayers) {
    return BadConfig(file,
                     absl::StrCat("the number of layers is ", config.layers,
                                  ", more than ", kMostLayers));
  }
  if (config.heads % config.kv_heads != 0) {
    return BadConfig(
        file, absl::StrCat(config.heads, " attention heads are no multiple of ",
                           config.kv_heads, " key/value heads"));
  }
  if (config.head_dim % 2 != 0) {
    return BadConfig(file, absl::StrCat("the head size ", config.head_dim,
                                        " is odd, rotary embeddings need "
                                        "pairs"));
  }
  if (!(config.rms_eps > 0) || !std::isfinite(config.rms_eps)) {
    return BadConfig(file, absl::StrCat("rms epsilon is ", config.rms_eps));
  }
  if (!(config.rope_theta > 0) || !std::isfinite(config.rope_theta)) {
    return BadConfig(file, absl::StrCat("rope base is ", config.rope_theta));
  }
  return absl::OkStatus();
}

// rope_scaling (older files) or rope_parameters (newer), which may also hold
// the base.
absl::Status ReadRopeScaling(const ConfigFields& rope, const std::string& file,
                             ModelConfig& config) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string old_type,
                          rope.Text("type", "default"));
  QSWEEP_ASSIGN_OR_RETURN(const std::string type,
                          rope.Text("rope_type", old_type));
  if (type == "default") {
    return absl::OkStatus();
  }
  if (type != "llama3") {
    return Unsupported(
        file, absl::StrCat("rotary scaling '", type, "' is not supported"));
  }
  Llama3RopeScaling scaling;
  QSWEEP_ASSIGN_OR_RETURN(scaling.factor, rope.Double("factor", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(scaling.low_frequency_factor,
                          rope.Double("low_freq_factor", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(scaling.high_frequency_factor,
                          rope.Double("high_freq_factor", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(
      scaling.original_context_length,
      rope.Double("original_max_position_embeddings", std::nullopt));
  if (!(scaling.factor > 0) || !(scaling.low_frequency_factor > 0) ||
      !(scaling.high_frequency_factor > scaling.low_frequency_factor) ||
      !(scaling.original_context_length > 0)) {
    return BadConfig(file,
                     "the llama3 rotary scaling has values that are "
                     "negative or in the wrong order");
  }
  config.rope_scaling = scaling;
  return absl::OkStatus();
}

absl::Status ReadRope(const ConfigFields& root, const std::string& file,
                      ModelConfig& config) {
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<ConfigFields> parameters,
                          root.Object("rope_parameters"));
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<ConfigFields> scaling,
                          root.Object("rope_scaling"));
  if (parameters && parameters->Find("rope_theta")) {
    QSWEEP_ASSIGN_OR_RETURN(config.rope_theta,
                            parameters->Double("rope_theta", std::nullopt));
  } else if (root.Find("rope_theta")) {
    QSWEEP_ASSIGN_OR_RETURN(config.rope_theta,
                            root.Double("rope_theta", std::nullopt));
  } else {
    return NoRopeBase(file, "rope_theta");
  }
  for (const std::optional<ConfigFields>& source : {parameters, scaling}) {
    if (source) {
      QSWEEP_RETURN_IF_ERROR(ReadRopeScaling(*source, file, config));
    }
  }
  return absl::OkStatus();
}

absl::Status RefuseWhatIsNotImplemented(const ConfigFields& root,
                                        const std::string& file) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string activation,
                          root.Text("hidden_act", "silu"));
  if (activation != "silu") {
    return Unsupported(
        file, absl::StrCat("activation '", activation, "' is not supported"));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    QSWEEP_ASSIGN_OR_RETURN(const bool bias, root.Bool(key, false));
    if (bias) {
      return Unsupported(file, absl::StrCat(key, " is not supported"));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const double rotary,
                          root.Double("partial_rotary_factor", 1.0));
  if (rotary != 1.0) {
    return Unsupported(file, "partial_rotary_factor is not supported");
  }
  return absl::OkStatus();
}

absl::Status ReadSizes(const ConfigFields& root, ModelConfig& config) {
  QSWEEP_ASSIGN_OR_RETURN(config.layers,
                          root.Int("num_hidden_layers", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.hidden_size,
                          root.Int("hidden_size", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.intermediate_size,
                          root.Int("intermediate_size", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.heads,
                          root.Int("num_attention_heads", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.kv_heads,
                          root.Int("num_key_value_heads", config.heads));
  QSWEEP_ASSIGN_OR_RETURN(
      config.head_dim,
      root.Int("head_dim", config.hidden_size / std::max(config.heads, 1)));
  QSWEEP_ASSIGN_OR_RETURN(config.vocabulary_size,
                          root.Int("vocab_size", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.context_length,
                          root.Int("max_position_embeddings", std::nullopt));
  // The two defaults of the official library for this family.
  QSWEEP_ASSIGN_OR_RETURN(config.rms_eps, root.Double("rms_norm_eps", 1e-6));
  QSWEEP_ASSIGN_OR_RETURN(config.tied_head,
                          root.Bool("tie_word_embeddings", false));
  return absl::OkStatus();
}

// Typed access to GGUF metadata.
class GgufFields {
 public:
  GgufFields(const Gguf& gguf, std::string prefix, const std::string& file)
      : gguf_(gguf), prefix_(std::move(prefix)), file_(file) {}

  template <typename T>
  const T* Find(absl::string_view key) const {
    const auto it = gguf_.metadata.find(absl::StrCat(prefix_, key));
    return it == gguf_.metadata.end() ? nullptr : std::get_if<T>(&it->second);
  }
  bool Has(absl::string_view key) const {
    return gguf_.metadata.contains(absl::StrCat(prefix_, key));
  }

  absl::StatusOr<int> Int(absl::string_view key,
                          std::optional<int> otherwise) const {
    if (!Has(key) && otherwise) {
      return *otherwise;
    }
    const uint64_t* natural = Find<uint64_t>(key);
    const int64_t* integer = Find<int64_t>(key);
    const uint64_t value = natural   ? *natural
                           : integer ? static_cast<uint64_t>(*integer)
                                     : std::numeric_limits<uint64_t>::max();
    if (value > static_cast<uint64_t>(std::numeric_limits<int>::max())) {
      return BadConfig(file_, absl::StrCat(prefix_, key,
                                           " is missing or no integer from 0 "
                                           "to 2147483647"));
    }
    return static_cast<int>(value);
  }

  absl::StatusOr<double> Double(absl::string_view key) const {
    const double* value = Find<double>(key);
    if (value == nullptr) {
      return BadConfig(
          file_, absl::StrCat(prefix_, key, " is missing or not a number"));
    }
    return *value;
  }

 private:
  const Gguf& gguf_;
  const std::string prefix_;
  const std::string& file_;
};

absl::Status ReadGgufRope(const Gguf& gguf, const GgufFields& fields,
                          const std::string& file, ModelConfig& config) {
  if (!fields.Has("rope.freq_base")) {
    return NoRopeBase(file, "llama.rope.freq_base");
  }
  QSWEEP_ASSIGN_OR_RETURN(config.rope_theta, fields.Double("rope.freq_base"));
  QSWEEP_ASSIGN_OR_RETURN(const int rotated,
                          fields.Int("rope.dimension_count", config.head_dim));
  if (rotated != config.head_dim) {
    return Unsupported(file, "partial rotary embeddings are not supported");
  }
  const std::string* scaling = fields.Find<std::string>("rope.scaling.type");
  if ((scaling != nullptr && *scaling != "none") ||
      fields.Has("rope.scale_linear")) {
    return Unsupported(file,
                       absl::StrCat("rotary scaling '",
                                    scaling != nullptr ? *scaling : "linear",
                                    "' is not supported"));
  }
  for (const StoredTensor& tensor : gguf.tensors) {
    if (tensor.name != "rope_freqs.weight") {
      continue;
    }
    config.rope_scaling = RecogniseRopeFactors(tensor, config);
    if (!config.rope_scaling) {
      return Unsupported(file,
                         "rope_freqs.weight is not the scaling of a known "
                         "Llama 3 model; use its safetensors files");
    }
  }
  return absl::OkStatus();
}

bool HasTensor(const Gguf& gguf, absl::string_view name) {
  return std::any_of(
      gguf.tensors.begin(), gguf.tensors.end(),
      [&](const StoredTensor& tensor) { return tensor.name == name; });
}

absl::Status ReadGgufSizes(const Gguf& gguf, const GgufFields& fields,
                           ModelConfig& config) {
  QSWEEP_ASSIGN_OR_RETURN(config.layers,
                          fields.Int("block_count", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.hidden_size,
                          fields.Int("embedding_length", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.intermediate_size,
                          fields.Int("feed_forward_length", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.heads,
                          fields.Int("attention.head_count", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.kv_heads,
                          fields.Int("attention.head_count_kv", config.heads));
  QSWEEP_ASSIGN_OR_RETURN(
      config.head_dim,
      fields.Int("attention.key_length",
                 config.hidden_size / std::max(config.heads, 1)));
  QSWEEP_ASSIGN_OR_RETURN(config.context_length,
                          fields.Int("context_length", std::nullopt));
  QSWEEP_ASSIGN_OR_RETURN(config.rms_eps,
                          fields.Double("attention.layer_norm_rms_epsilon"));
  int num_tokens = 0;
  const auto tokens = gguf.metadata.find("tokenizer.ggml.tokens");
  if (tokens != gguf.metadata.end()) {
    if (const auto* list =
            std::get_if<std::vector<std::string>>(&tokens->second)) {
      num_tokens = static_cast<int>(list->size());
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(config.vocabulary_size,
                          fields.Int("vocab_size", num_tokens));
  config.tied_head = !HasTensor(gguf, "output.weight");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadConfigJson(absl::string_view json,
                                           const std::string& file) {
  dom::parser parser;
  QSWEEP_ASSIGN_OR_RETURN(const dom::object object,
                          ParseConfigObject(json, file, parser));
  const ConfigFields root(object, file);
  QSWEEP_ASSIGN_OR_RETURN(const std::string type, root.Text("model_type", ""));
  const ModelFamily* family = FindFamilyByModelType(type);
  if (family == nullptr) {
    return Unsupported(
        file, absl::StrCat("model_type '", type,
                           "' is not supported; supported: ", FamilyNames()));
  }
  QSWEEP_RETURN_IF_ERROR(RefuseWhatIsNotImplemented(root, file));
  ModelConfig config;
  config.family = family->name;
  QSWEEP_RETURN_IF_ERROR(ReadSizes(root, config));
  QSWEEP_RETURN_IF_ERROR(ReadRope(root, file, config));
  QSWEEP_RETURN_IF_ERROR(CheckConfig(config, file));
  return config;
}

absl::StatusOr<ModelConfig> ReadGgufConfig(const Gguf& gguf,
                                           const std::string& file) {
  const std::string* architecture =
      GgufFields(gguf, "general.", file).Find<std::string>("architecture");
  const ModelFamily* family = architecture != nullptr
                                  ? FindFamilyByGgufArchitecture(*architecture)
                                  : nullptr;
  if (family == nullptr) {
    return Unsupported(
        file, absl::StrCat("architecture '",
                           architecture != nullptr ? *architecture : "",
                           "' is not supported; supported: ", FamilyNames()));
  }
  const GgufFields fields(gguf, absl::StrCat(family->gguf_architecture, "."),
                          file);
  if (fields.Has("expert_count")) {
    QSWEEP_ASSIGN_OR_RETURN(const int experts, fields.Int("expert_count", 0));
    if (experts > 0) {
      return Unsupported(file, "mixtures of experts are not supported");
    }
  }
  ModelConfig config;
  config.family = family->name;
  QSWEEP_RETURN_IF_ERROR(ReadGgufSizes(gguf, fields, config));
  QSWEEP_RETURN_IF_ERROR(ReadGgufRope(gguf, fields, file, config));
  QSWEEP_RETURN_IF_ERROR(CheckConfig(config, file));
  return config;
}

}  // namespace qsweep
