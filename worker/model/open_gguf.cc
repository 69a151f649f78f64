#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/base/status_macros.h"
#include "worker/model/checkpoint_parts.h"
#include "worker/model/config_reader.h"
#include "worker/model/families.h"
#include "worker/model/gguf.h"
#include "worker/tokenizer/json_text.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

template <typename T>
T MetadataOr(const Gguf& gguf, const char* key, T otherwise) {
  const auto it = gguf.metadata.find(key);
  if (it == gguf.metadata.end()) {
    return otherwise;
  }
  const T* value = std::get_if<T>(&it->second);
  return value != nullptr ? *value : otherwise;
}

std::optional<int32_t> TokenId(const Gguf& gguf, const char* key) {
  const uint64_t id = MetadataOr<uint64_t>(gguf, key, UINT64_MAX);
  return id <= INT32_MAX ? std::optional<int32_t>(static_cast<int32_t>(id))
                         : std::nullopt;
}

GgufVocabulary VocabularyOf(const Gguf& gguf) {
  GgufVocabulary vocabulary;
  vocabulary.model = MetadataOr<std::string>(gguf, "tokenizer.ggml.model", "");
  vocabulary.pre =
      MetadataOr<std::string>(gguf, "tokenizer.ggml.pre", "default");
  vocabulary.tokens =
      MetadataOr<std::vector<std::string>>(gguf, "tokenizer.ggml.tokens", {});
  vocabulary.merges =
      MetadataOr<std::vector<std::string>>(gguf, "tokenizer.ggml.merges", {});
  for (const int64_t type : MetadataOr<std::vector<int64_t>>(
           gguf, "tokenizer.ggml.token_type", {})) {
    vocabulary.token_types.push_back(static_cast<int32_t>(type));
  }
  vocabulary.bos = TokenId(gguf, "tokenizer.ggml.bos_token_id");
  vocabulary.eos = TokenId(gguf, "tokenizer.ggml.eos_token_id");
  vocabulary.add_bos =
      MetadataOr<bool>(gguf, "tokenizer.ggml.add_bos_token", false);
  return vocabulary;
}

// A name and its JSON.
using Field = std::pair<const char*, std::string>;

std::string FormatObject(const std::vector<Field>& fields) {
  return absl::StrCat("{\n",
                      absl::StrJoin(fields, ",\n",
                                    [](std::string* out, const Field& field) {
                                      absl::StrAppend(out, "  \"", field.first,
                                                      "\": ", field.second);
                                    }),
                      "\n}\n");
}

// The number and no other.
std::string Number(double value) { return absl::StrFormat("%.17g", value); }

std::string ScalingJson(const std::optional<Llama3RopeScaling>& scaling) {
  if (!scaling) {
    return "null";
  }
  return absl::StrCat(
      R"({"rope_type": "llama3", "factor": )", Number(scaling->factor),
      R"(, "low_freq_factor": )", Number(scaling->low_frequency_factor),
      R"(, "high_freq_factor": )", Number(scaling->high_frequency_factor),
      R"(, "original_max_position_embeddings": )",
      static_cast<int64_t>(scaling->original_context_length), "}");
}

std::string ConfigJson(const ModelConfig& config,
                       const GgufVocabulary& vocabulary) {
  const ModelFamily& family = *FindFamily(config.family);
  std::vector<Field> fields = {
      {"architectures", absl::StrCat("[\"", family.model_class, "\"]")},
      {"model_type", JsonString(family.model_type)},
      {"hidden_act", "\"silu\""},
      {"hidden_size", absl::StrCat(config.hidden_size)},
      {"intermediate_size", absl::StrCat(config.intermediate_size)},
      {"num_hidden_layers", absl::StrCat(config.layers)},
      {"num_attention_heads", absl::StrCat(config.heads)},
      {"num_key_value_heads", absl::StrCat(config.kv_heads)},
      {"head_dim", absl::StrCat(config.head_dim)},
      {"vocab_size", absl::StrCat(config.vocabulary_size)},
      {"max_position_embeddings", absl::StrCat(config.context_length)},
      {"rms_norm_eps", Number(config.rms_eps)},
      {"rope_theta", Number(config.rope_theta)},
      {"rope_scaling", ScalingJson(config.rope_scaling)},
      {"attention_bias", "false"},
      {"mlp_bias", "false"},
      {"tie_word_embeddings", config.tied_head ? "true" : "false"}};
  if (vocabulary.bos) {
    fields.emplace_back("bos_token_id", absl::StrCat(*vocabulary.bos));
  }
  if (vocabulary.eos) {
    fields.emplace_back("eos_token_id", absl::StrCat(*vocabulary.eos));
  }
  return FormatObject(fields);
}

std::string TokenizerConfigJson(const ModelConfig& config,
                                const GgufVocabulary& vocabulary) {
  std::vector<Field> fields = {
      {"tokenizer_class", "\"PreTrainedTokenizerFast\""},
      {"model_max_length", absl::StrCat(config.context_length)},
      {"clean_up_tokenization_spaces", "false"}};
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id) {
      fields.emplace_back(
          name, JsonString(vocabulary.tokens[static_cast<size_t>(*id)]));
    }
  };
  add("bos_token", vocabulary.bos);
  add("eos_token", vocabulary.eos);
  return FormatObject(fields);
}

}  // namespace

absl::StatusOr<Parts> OpenGgufParts(const std::string& path) {
  Parts parts;
  parts.name = fs::path(path).stem().string();
  QSWEEP_ASSIGN_OR_RETURN(FilePtr file, MappedFile::Open(path));
  QSWEEP_ASSIGN_OR_RETURN(Gguf gguf, ParseGguf(file->bytes(), path));
  QSWEEP_ASSIGN_OR_RETURN(parts.config, ReadGgufConfig(gguf, path));
  QSWEEP_ASSIGN_OR_RETURN(parts.tokenizer,
                          MakeGgufTokenizer(VocabularyOf(gguf)));
  // Made when they are asked for: a vocabulary is large.
  parts.side_files =
      [file, config = parts.config]() -> absl::StatusOr<std::vector<SideFile>> {
    QSWEEP_ASSIGN_OR_RETURN(const Gguf again,
                            ParseGguf(file->bytes(), file->path()));
    const GgufVocabulary vocabulary = VocabularyOf(again);
    return std::vector<SideFile>{
        {"config.json", ConfigJson(config, vocabulary)},
        {"tokenizer.json", FormatTokenizerJson(vocabulary)},
        {"tokenizer_config.json", TokenizerConfigJson(config, vocabulary)}};
  };
  parts.weights.push_back(std::move(file));
  for (StoredTensor& tensor : gguf.tensors) {
    std::string name = tensor.name;
    parts.found.emplace(std::move(name), Located{std::move(tensor), path});
  }
  QSWEEP_RETURN_IF_ERROR(MatchTensors(/*gguf=*/true, parts));
  QSWEEP_RETURN_IF_ERROR(CheckVocabulary(parts, path));
  return parts;
}

}  // namespace qsweep
