#include "worker/model/checkpoint.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
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
#include "worker/model/checkpoint_parts.h"
#include "worker/model/model_cache.h"
#include "worker/model/prequantized.h"
#include "worker/model/weight_digest.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

constexpr char kStoppedText[] = "The reading of a tensor was stopped.";

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
      const std::string& cache_dir, const Stopped& stopped) const override {
    ModelDescription description;
    QSWEEP_ASSIGN_OR_RETURN(description.digest,
                            WeightsDigest(cache_dir, stopped));
    description.tokenizer_digest = parts_.tokenizer->digest();
    description.name = parts_.name;
    description.family = parts_.config.family;
    description.layers = parts_.config.layers;
    description.hidden_size = parts_.config.hidden_size;
    description.vocabulary_size = parts_.config.vocabulary_size;
    description.context_length = parts_.config.context_length;
    description.tied_head = parts_.config.tied_head;
    std::vector<StoredTensor> linears;
    std::vector<PackedWeights> packed;
    for (const ModelTensor& tensor : parts_.tensors) {
      description.tensors.push_back(tensor.description);
      if (tensor.description.layer < 0 ||
          tensor.description.shape.size() != 2) {
        continue;
      }
      if (tensor.packed) {
        packed.push_back({.rows = tensor.packed->rows,
                          .columns = tensor.packed->columns,
                          .bits = tensor.packed->module.bits});
      } else {
        linears.push_back(tensor.source.tensor);
      }
    }
    // The digest has all that the answer follows from.
    const std::string key =
        absl::StrCat("prequantized 1 ", description.digest.hex());
    const std::string name =
        absl::StrCat("model-", description.digest.hex().substr(0, 32));
    if (!cache_dir.empty()) {
      if (auto known = FindFact(cache_dir, name, key)) {
        description.prequantized = *std::move(known);
        return description;
      }
    }
    QSWEEP_ASSIGN_OR_RETURN(description.prequantized,
                            DetectPrequantized(linears, packed, stopped));
    if (!cache_dir.empty()) {
      KeepFact(cache_dir, name, key, description.prequantized);
    }
    return description;
  }

  absl::Status ReadTensor(const std::string& name, std::span<float> out,
                          const Stopped& stopped) const override {
    const auto it = index_.find(name);
    if (it == index_.end()) {
      return MakeError(kMissingTensor,
                       absl::StrCat("the model has no tensor '", name, "'"),
                       parts_.weights.front()->path());
    }
    const ModelTensor& tensor = parts_.tensors[it->second];
    const StoredTensor& stored = tensor.source.tensor;
    QSWEEP_CHECK(static_cast<int64_t>(out.size()) ==
                 tensor.description.num_elements());
    if (tensor.packed) {
      QSWEEP_RETURN_IF_ERROR(tensor.packed->Unpack(out, stopped));
    } else if (tensor.interleaved_heads > 0) {
      QSWEEP_RETURN_IF_ERROR(
          ReadInterleaved(stored, tensor.interleaved_heads, out, stopped));
    } else {
      QSWEEP_RETURN_IF_ERROR(ReadPlain(stored, out, stopped));
    }
    for (size_t first = 0; first < out.size(); first += kPieceValues) {
      if (IsStopped(stopped)) {
        return absl::CancelledError(kStoppedText);
      }
      const std::span<const float> piece =
          out.subspan(first, std::min(kPieceValues, out.size() - first));
      const size_t bad = FindNonFinite(piece);
      if (bad < piece.size()) {
        return MakeError(kNonFiniteWeights,
                         absl::StrCat("tensor '", name,
                                      "' holds a value that is not finite: ",
                                      piece[bad], " at element ", first + bad),
                         tensor.source.file,
                         "Download the model again, or use another one.");
      }
    }
    return absl::OkStatus();
  }

  std::optional<StoredTensor> FindPlain(
      const std::string& name) const override {
    const auto it = index_.find(name);
    if (it == index_.end()) {
      return std::nullopt;
    }
    const ModelTensor& tensor = parts_.tensors[it->second];
    if (tensor.packed || tensor.interleaved_heads > 0 ||
        InfoOf(tensor.source.tensor.type).block_elements != 1) {
      return std::nullopt;
    }
    return tensor.source.tensor;
  }

  absl::StatusOr<std::vector<SideFile>> SideFiles() const override {
    return parts_.side_files();
  }

 private:
  // llama.cpp interleaves the two rotary halves of each head: row 2i+j of a
  // head in the file is row j*head_dim/2 + i of the head (j is 0 or 1).
  static absl::Status ReadInterleaved(const StoredTensor& stored, int heads,
                                      std::span<float> out,
                                      const Stopped& stopped) {
    const size_t rows = static_cast<size_t>(stored.shape[0]);
    const size_t columns = static_cast<size_t>(stored.shape[1]);
    const size_t row_bytes = stored.data.size() / rows;
    const size_t head_dim = rows / static_cast<size_t>(heads);
    for (size_t row = 0; row < rows; ++row) {
      if (IsStopped(stopped)) {
        return absl::CancelledError(kStoppedText);
      }
      const size_t in_head = row % head_dim;
      const size_t target =
          row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
      Dequantize(stored.type, stored.data.subspan(row * row_bytes, row_bytes),
                 out.subspan(target * columns, columns));
    }
    return absl::OkStatus();
  }

  static absl::Status ReadPlain(const StoredTensor& stored,
                                std::span<float> out, const Stopped& stopped) {
    const TensorTypeInfo& info = InfoOf(stored.type);
    const auto block_elements = static_cast<size_t>(info.block_elements);
    const auto block_bytes = static_cast<size_t>(info.block_bytes);
    for (size_t first = 0; first < out.size(); first += kPieceValues) {
      if (IsStopped(stopped)) {
        return absl::CancelledError(kStoppedText);
      }
      Dequantize(
          stored.type,
          stored.data.subspan(first / block_elements * block_bytes),
          out.subspan(first, std::min(kPieceValues, out.size() - first)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Digest> WeightsDigest(const std::string& cache_dir,
                                       const Stopped& stopped) const {
    std::string text = "qsweep model 1\n";
    for (const FilePtr& file : parts_.config_files) {
      absl::StrAppend(&text, "config ", Digest::Of(TextOf(*file)).hex(), "\n");
    }
    for (const FilePtr& file : parts_.weights) {
      QSWEEP_ASSIGN_OR_RETURN(
          const Digest digest,
          CachedDigestOfFile(file->path(), cache_dir, stopped));
      absl::StrAppend(&text, "weights ", digest.hex(), "\n");
    }
    return Digest::Of(text);
  }

  const Parts parts_;
  std::map<std::string, size_t> index_;
};

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

absl::Status NoModel(const std::string& path, absl::string_view what) {
  return MakeError(kModelNotFound, what, path,
                   "Give a directory with config.json and safetensors files, "
                   "a directory with one .gguf file, or a .gguf file.");
}

absl::string_view TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
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

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::string& path) {
  std::error_code error;
  absl::StatusOr<Parts> parts = NoModel(path, "the file is not a .gguf file");
  if (fs::is_directory(path, error)) {
    if (Exists(absl::StrCat(path, "/config.json"))) {
      parts = OpenHuggingFaceParts(path);
    } else {
      QSWEEP_ASSIGN_OR_RETURN(const std::string file, OnlyGgufIn(path));
      parts = OpenGgufParts(file);
    }
  } else if (!Exists(path)) {
    return NoModel(path, "there is no such file or directory");
  } else if (absl::EndsWith(path, ".gguf")) {
    parts = OpenGgufParts(path);
  }
  QSWEEP_RETURN_IF_ERROR(parts.status());
  return std::make_unique<FileCheckpoint>(*std::move(parts));
}

}  // namespace qsweep
