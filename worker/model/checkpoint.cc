#include "worker/model/checkpoint.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/config_reader.h"
#include "worker/model/families.h"
#include "worker/model/gguf.h"
#include "worker/model/mapped_file.h"
#include "worker/model/prequantized.h"
#include "worker/model/safetensors.h"
#include "worker/model/tensor_names.h"
#include "worker/model/weight_digest.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

using FilePtr = std::shared_ptr<const MappedFile>;

absl::Status NoModel(const std::string& path, absl::string_view what) {
  return MakeError(kModelNotFound, what, path,
                   "Give a directory with config.json and safetensors files, "
                   "a directory with one .gguf file, or a .gguf file.");
}

absl::string_view TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

// A tensor as a file has it, with the file it is in.
struct Located {
  StoredTensor tensor;
  std::string file;
};

// A tensor of the model.
struct ModelTensor {
  TensorDescription description;
  Located source;
  int interleaved_heads = 0;  // 0: rows are in Hugging Face order
};

// Everything Open found out, before it is frozen in a checkpoint.
struct Parts {
  std::string name;
  ModelConfig config;
  std::unique_ptr<Tokenizer> tokenizer;
  FilePtr config_file;           // nullptr: inside the weights
  std::vector<FilePtr> weights;  // in order of name
  std::vector<ModelTensor> tensors;
};

// Index of the first NaN or infinity, or size.
size_t FindNonFinite(std::span<const float> values) {
  const auto is_bad = [](float value) {
    return (std::bit_cast<uint32_t>(value) & 0x7f800000u) == 0x7f800000u;
  };
  unsigned any = 0;  // no early exit, so that the loop vectorizes
  for (const float value : values) {
    any |= is_bad(value) ? 1u : 0u;
  }
  if (any == 0) {
    return values.size();
  }
  return static_cast<size_t>(
      std::find_if(values.begin(), values.end(), is_bad) - values.begin());
}

class FileCheckpoint final : public Checkpoint {
 public:
  explicit FileCheckpoint(Parts parts) : parts_(std::move(parts)) {
    for (size_t i = 0; i < parts_.tensors.size(); ++i) {
      index_.emplace(parts_.tensors[i].description.name, i);
    }
  }

  const ModelConfig& config() const override { return parts_.config; }
  const Tokenizer& tokenizer() const override { return *parts_.tokenizer; }

  absl::StatusOr<ModelDescription> Describe(
      const std::string& cache_dir) const override {
    ModelDescription description;
    QSWEEP_ASSIGN_OR_RETURN(description.digest, WeightsDigest(cache_dir));
    description.tokenizer_digest = parts_.tokenizer->digest();
    description.name = parts_.name;
    description.family = parts_.config.family;
    description.layers = parts_.config.layers;
    description.hidden_size = parts_.config.hidden_size;
    description.vocabulary_size = parts_.config.vocabulary_size;
    description.context_length = parts_.config.context_length;
    description.tied_head = parts_.config.tied_head;
    std::vector<StoredTensor> linears;
    for (const ModelTensor& tensor : parts_.tensors) {
      description.tensors.push_back(tensor.description);
      if (tensor.description.layer >= 0 &&
          tensor.description.shape.size() == 2) {
        linears.push_back(tensor.source.tensor);
      }
    }
    description.prequantized = DetectPrequantized(linears);
    return description;
  }

  absl::Status ReadTensor(const std::string& name,
                          std::span<float> out) const override {
    const auto it = index_.find(name);
    if (it == index_.end()) {
      return MakeError(kMissingTensor,
                       absl::StrCat("the model has no tensor '", name, "'"),
                       parts_.weights.front()->path());
    }
    const ModelTensor& tensor = parts_.tensors[it->second];
    const StoredTensor& stored = tensor.source.tensor;
    QSWEEP_CHECK(static_cast<int64_t>(out.size()) == stored.num_elements());
    if (tensor.interleaved_heads > 0) {
      ReadInterleaved(stored, tensor.interleaved_heads, out);
    } else {
      Dequantize(stored.type, stored.data, out);
    }
    const size_t bad = FindNonFinite(out);
    if (bad < out.size()) {
      return MakeError(
          kNonFiniteWeights,
          absl::StrCat("tensor '", name, "' holds a value that is not finite: ",
                       out[bad], " at element ", bad),
          tensor.source.file, "Download the model again, or use another one.");
    }
    return absl::OkStatus();
  }

 private:
  // llama.cpp interleaves the two rotary halves of each head: row 2i+j of a
  // head in the file is row j*head_dim/2 + i of the head (j is 0 or 1).
  static void ReadInterleaved(const StoredTensor& stored, int heads,
                              std::span<float> out) {
    const size_t rows = static_cast<size_t>(stored.shape[0]);
    const size_t columns = static_cast<size_t>(stored.shape[1]);
    const size_t row_bytes = stored.data.size() / rows;
    const size_t head_dim = rows / static_cast<size_t>(heads);
    for (size_t row = 0; row < rows; ++row) {
      const size_t in_head = row % head_dim;
      const size_t target =
          row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
      Dequantize(stored.type, stored.data.subspan(row * row_bytes, row_bytes),
                 out.subspan(target * columns, columns));
    }
  }

  absl::StatusOr<Digest> WeightsDigest(const std::string& cache_dir) const {
    std::string text = "qsweep model 1\n";
    if (parts_.config_file != nullptr) {
      absl::StrAppend(&text, "config ",
                      Digest::Of(TextOf(*parts_.config_file)).hex(), "\n");
    }
    for (const FilePtr& file : parts_.weights) {
      QSWEEP_ASSIGN_OR_RETURN(const Digest digest,
                              CachedDigestOfFile(file->path(), cache_dir));
      absl::StrAppend(&text, "weights ", digest.hex(), "\n");
    }
    return Digest::Of(text);
  }

  const Parts parts_;
  std::map<std::string, size_t> index_;
};

using TensorMap = std::map<std::string, Located>;

// Finds each tensor the family needs among those of the files. gguf: the files'
// names are GGUF names.
absl::Status MatchTensors(const TensorMap& found, bool gguf, Parts& parts) {
  const std::string& file = parts.weights.front()->path();
  const ModelFamily* family = FindFamily(parts.config.family);
  std::set<std::string> used;
  for (ExpectedTensor& expected : ExpectedTensors(parts.config)) {
    TensorDescription& description = expected.description;
    const std::string& name = gguf ? expected.gguf_name : description.name;
    const auto it = found.find(name);
    if (it == found.end()) {
      return MakeError(kMissingTensor,
                       absl::StrCat("the model lacks the tensor '", name, "'"),
                       file, "Download the model again.");
    }
    const StoredTensor& stored = it->second.tensor;
    if (stored.shape != description.shape) {
      return MakeError(
          kTensorShapeMismatch,
          absl::StrCat("tensor '", name, "' has shape [",
                       absl::StrJoin(stored.shape, ", "),
                       "], the configuration says [",
                       absl::StrJoin(description.shape, ", "), "]"),
          it->second.file,
          "Configuration and weights are of different models.");
    }
    used.insert(name);
    description.stored_bits = InfoOf(stored.type).bits_per_element();
    ModelTensor tensor{std::move(description), it->second};
    if (gguf && family->gguf_permutes_qk) {
      const Component component = tensor.description.component;
      tensor.interleaved_heads = component == Component::kQ ? parts.config.heads
                                 : component == Component::kK
                                     ? parts.config.kv_heads
                                     : 0;
    }
    parts.tensors.push_back(std::move(tensor));
  }
  for (const auto& [name, located] : found) {
    if (!used.contains(name) && !IsIgnoredTensor(name, parts.config)) {
      return MakeError(
          kUnsupportedArchitecture,
          absl::StrCat("tensor '", name, "' is no part of the family '",
                       parts.config.family,
                       "'; leaving it out would change the model"),
          located.file, absl::StrCat("Supported families: ", FamilyNames()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckVocabulary(const Parts& parts, const std::string& path) {
  if (parts.tokenizer->vocabulary_size() > parts.config.vocabulary_size) {
    return MakeError(
        kBadModelConfig,
        absl::StrCat("the tokenizer has ", parts.tokenizer->vocabulary_size(),
                     " tokens, the model embeds ",
                     parts.config.vocabulary_size),
        path, "Tokenizer and weights are of different models.");
  }
  return absl::OkStatus();
}

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

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path) {
  Parts parts;
  parts.name = fs::path(path).stem().string();
  QSWEEP_ASSIGN_OR_RETURN(FilePtr file, MappedFile::Open(path));
  QSWEEP_ASSIGN_OR_RETURN(Gguf gguf, ParseGguf(file->bytes(), path));
  QSWEEP_ASSIGN_OR_RETURN(parts.config, ReadGgufConfig(gguf, path));
  QSWEEP_ASSIGN_OR_RETURN(parts.tokenizer,
                          MakeGgufTokenizer(VocabularyOf(gguf)));
  parts.weights.push_back(std::move(file));
  TensorMap found;
  for (StoredTensor& tensor : gguf.tensors) {
    std::string name = tensor.name;
    found.emplace(std::move(name), Located{std::move(tensor), path});
  }
  QSWEEP_RETURN_IF_ERROR(MatchTensors(found, /*gguf=*/true, parts));
  QSWEEP_RETURN_IF_ERROR(CheckVocabulary(parts, path));
  return std::make_unique<FileCheckpoint>(std::move(parts));
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Names of the weight files in a Hugging Face directory, sorted, and for a
// sharded model the tensors each must hold.
struct Shards {
  std::set<std::string> files;
  std::map<std::string, std::string> tensors;  // name -> file; may be empty
};

absl::StatusOr<Shards> FindShards(const fs::path& directory) {
  const fs::path index = directory / "model.safetensors.index.json";
  Shards shards;
  if (Exists(index)) {
    QSWEEP_ASSIGN_OR_RETURN(const FilePtr file,
                            MappedFile::Open(index.string()));
    QSWEEP_ASSIGN_OR_RETURN(
        shards.tensors, ParseSafetensorsIndex(TextOf(*file), index.string()));
    for (const auto& [tensor, name] : shards.tensors) {
      shards.files.insert(name);
    }
    if (shards.files.empty()) {
      return NoModel(index.string(), "the index names no file");
    }
    return shards;
  }
  if (!Exists(directory / "model.safetensors")) {
    return NoModel(directory.string(),
                   Exists(directory / "pytorch_model.bin")
                       ? "the directory has only pytorch_model.bin, which can "
                         "run code when it is read; convert it to safetensors"
                       : "the directory has config.json but neither "
                         "model.safetensors nor its index");
  }
  shards.files.insert("model.safetensors");
  return shards;
}

absl::StatusOr<TensorMap> LoadShards(const fs::path& directory,
                                     const Shards& shards, Parts& parts) {
  TensorMap found;
  for (const std::string& name : shards.files) {
    const std::string path = (directory / name).string();
    QSWEEP_ASSIGN_OR_RETURN(FilePtr file, MappedFile::Open(path));
    QSWEEP_ASSIGN_OR_RETURN(std::vector<StoredTensor> tensors,
                            ParseSafetensors(file->bytes(), path));
    parts.weights.push_back(std::move(file));
    for (StoredTensor& tensor : tensors) {
      std::string key = tensor.name;
      const auto [it, inserted] =
          found.emplace(key, Located{std::move(tensor), path});
      if (!inserted) {
        return MakeError(
            kCorruptModel,
            absl::StrCat("tensor '", key, "' is also in ", it->second.file),
            path, "Download the model again.");
      }
    }
  }
  for (const auto& [tensor, name] : shards.tensors) {
    const auto it = found.find(tensor);
    if (it == found.end() || it->second.file != (directory / name).string()) {
      return MakeError(kMissingTensor,
                       absl::StrCat("the index says that tensor '", tensor,
                                    "' is in this file, but it is not"),
                       (directory / name).string(),
                       "Download the model again.");
    }
  }
  return found;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFace(
    const fs::path& directory) {
  Parts parts;
  std::error_code error;
  parts.name = fs::canonical(directory, error).filename().string();
  const std::string config_path = (directory / "config.json").string();
  QSWEEP_ASSIGN_OR_RETURN(parts.config_file, MappedFile::Open(config_path));
  QSWEEP_ASSIGN_OR_RETURN(
      parts.config, ReadConfigJson(TextOf(*parts.config_file), config_path));
  QSWEEP_ASSIGN_OR_RETURN(const Shards shards, FindShards(directory));
  QSWEEP_ASSIGN_OR_RETURN(const TensorMap found,
                          LoadShards(directory, shards, parts));
  QSWEEP_RETURN_IF_ERROR(MatchTensors(found, /*gguf=*/false, parts));
  const std::string tokenizer = (directory / "tokenizer.json").string();
  QSWEEP_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizerJson(tokenizer));
  QSWEEP_RETURN_IF_ERROR(CheckVocabulary(parts, tokenizer));
  return std::make_unique<FileCheckpoint>(std::move(parts));
}

absl::StatusOr<std::string> OnlyGgufIn(const fs::path& directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".gguf") {
      found.push_back(it->path().string());
    }
  }
  if (error) {
    return NoModel(
        directory.string(),
        absl::StrCat("cannot list the directory: ", error.message()));
  }
  if (found.size() != 1) {
    std::sort(found.begin(), found.end());
    return NoModel(directory.string(),
                   found.empty()
                       ? "the directory has neither config.json nor a .gguf "
                         "file"
                       : absl::StrCat("the directory has several .gguf files: ",
                                      absl::StrJoin(found, ", ")));
  }
  return found.front();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (Exists(fs::path(path) / "config.json")) {
      return OpenHuggingFace(path);
    }
    QSWEEP_ASSIGN_OR_RETURN(const std::string file, OnlyGgufIn(path));
    return OpenGguf(file);
  }
  if (!Exists(path)) {
    return NoModel(path, "there is no such file or directory");
  }
  if (!absl::EndsWith(path, ".gguf")) {
    return NoModel(path, "the file is not a .gguf file");
  }
  return OpenGguf(path);
}

}  // namespace qsweep
