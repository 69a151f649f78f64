#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "worker/model/checkpoint_parts.h"
#include "worker/model/config_reader.h"
#include "worker/model/safetensors.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

// What else transformers keeps with a model, where it is there.
constexpr std::array kSideFiles = {
    "config.json",       "generation_config.json",
    "tokenizer.json",    "tokenizer_config.json",
    "tokenizer.model",   "special_tokens_map.json",
    "added_tokens.json", "vocab.json",
    "merges.txt",        "chat_template.jinja",
    "chat_template.json"};

absl::StatusOr<std::vector<SideFile>> ReadSideFiles(const fs::path& directory) {
  std::vector<SideFile> files;
  for (const char* const name : kSideFiles) {
    const std::string path = (directory / name).string();
    if (Exists(path)) {
      QSWEEP_ASSIGN_OR_RETURN(const FilePtr file, MappedFile::Open(path));
      files.push_back({name, std::string(TextOf(*file))});
    }
  }
  return files;
}

// How the weights are packed, which config.json, quantize_config.json or both
// say; nothing: they are not.
absl::Status ReadPacking(const fs::path& directory, Parts& parts) {
  const FilePtr& config_file = parts.config_files.front();
  QSWEEP_ASSIGN_OR_RETURN(
      parts.packing,
      GptqConfig::ReadConfigJson(TextOf(*config_file), config_file->path()));
  const std::string path = (directory / "quantize_config.json").string();
  if (!Exists(path)) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(FilePtr file, MappedFile::Open(path));
  QSWEEP_ASSIGN_OR_RETURN(GptqConfig own,
                          GptqConfig::ReadQuantizeConfig(TextOf(*file), path));
  if (!parts.packing) {
    parts.packing = std::move(own);
    parts.config_files.push_back(std::move(file));
  } else if (!parts.packing->SameAs(own)) {
    return MakeError(kBadModelConfig,
                     "the file disagrees with quantization_config of "
                     "config.json",
                     path, "Remove the one that is wrong.");
  }
  return absl::OkStatus();
}

// The name AutoGPTQ gives the weights.
std::string AutoGptqName(const GptqModule& module) {
  return absl::StrCat("gptq_model-", module.bits, "bit-",
                      module.group_size == 0 ? -1 : module.group_size,
                      "g.safetensors");
}

// Programs that pack without a mask write a zero point of 0 over those beside
// it; nothing in the file tells whether this one has.
void WarnOfWrappedZeros(const Parts& parts) {
  int64_t modules = 0;
  for (const ModelTensor& tensor : parts.tensors) {
    modules += tensor.packed && tensor.packed->num_wrapped_zeros() > 0 ? 1 : 0;
  }
  if (modules > 0) {
    LogWarning(absl::StrCat(
        parts.weights.front()->path(), ": ", modules,
        " modules have zero points of 0 in the format gptq; AutoGPTQ damages "
        "the zero points beside such ones"));
  }
}

// Names of the weight files in a Hugging Face directory, sorted, and for a
// sharded model the tensors each must hold.
struct Shards {
  std::set<std::string> files;
  std::map<std::string, std::string> tensors;  // name -> file; may be empty
};

absl::StatusOr<Shards> FindShards(const fs::path& directory,
                                  const std::optional<GptqConfig>& packing) {
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
  if (packing && !Exists(directory / "model.safetensors") &&
      Exists(directory / AutoGptqName(packing->common()))) {
    shards.files.insert(AutoGptqName(packing->common()));
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

}  // namespace

absl::StatusOr<Parts> OpenHuggingFaceParts(const std::string& path) {
  const fs::path directory = path;
  Parts parts;
  std::error_code error;
  parts.name = fs::canonical(directory, error).filename().string();
  const std::string config_path = (directory / "config.json").string();
  QSWEEP_ASSIGN_OR_RETURN(FilePtr config_file, MappedFile::Open(config_path));
  QSWEEP_ASSIGN_OR_RETURN(parts.config,
                          ReadConfigJson(TextOf(*config_file), config_path));
  parts.config_files.push_back(std::move(config_file));
  QSWEEP_RETURN_IF_ERROR(ReadPacking(directory, parts));
  QSWEEP_ASSIGN_OR_RETURN(const Shards shards,
                          FindShards(directory, parts.packing));
  QSWEEP_ASSIGN_OR_RETURN(parts.found, LoadShards(directory, shards, parts));
  QSWEEP_RETURN_IF_ERROR(MatchTensors(/*gguf=*/false, parts));
  const std::string tokenizer = (directory / "tokenizer.json").string();
  QSWEEP_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizerJson(tokenizer));
  QSWEEP_RETURN_IF_ERROR(CheckVocabulary(parts, tokenizer));
  WarnOfWrappedZeros(parts);
  parts.side_files = [directory] { return ReadSideFiles(directory); };
  return parts;
}

}  // namespace qsweep
