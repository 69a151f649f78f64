#include "worker/model/checkpoint.h"

#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/support/error_matchers.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"
#include "worker/model/tensor_names.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using testing::FloatBytes;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::HintOf;
using testing::SafetensorsWriter;
using testing::TempDir;

using Json = nlohmann::json;

constexpr int kHeadDim = 4;

ModelConfig TinyConfig(bool tied) {
  return {.family = "llama",
          .layers = 2,
          .hidden_size = 8,
          .intermediate_size = 6,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = kHeadDim,
          .vocabulary_size = 5,
          .context_length = 64,
          .rms_eps = 1e-5,
          .rope_theta = 1e4,
          .tied_head = tied};
}

// Every element of every tensor has a value of its own.
std::vector<float> ValuesOf(const ExpectedTensor& tensor, size_t index) {
  std::vector<float> values(
      static_cast<size_t>(tensor.description.num_elements()));
  std::iota(values.begin(), values.end(), static_cast<float>(1000 * index));
  return values;
}

Json ConfigJson(const ModelConfig& config) {
  return {{"model_type", "llama"},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocabulary_size},
          {"max_position_embeddings", config.context_length},
          {"rms_norm_eps", config.rms_eps},
          {"rope_theta", config.rope_theta},
          {"tie_word_embeddings", config.tied_head}};
}

constexpr char kTokenizerJson[] =
    R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
                  "merges": ["a b"]}})";

// What a test changes in a model before it is written.
struct Damage {
  int vocabulary_size = 5;
  std::string skip;                                 // a tensor left out
  std::string add;                                  // a tensor nobody asked for
  std::function<void(std::vector<float>&)> values;  // of layer 1's k_proj
  std::function<void(Json&)> config;
};

void WriteHuggingFace(const TempDir& directory, bool tied,
                      const Damage& damage = {}) {
  ModelConfig config = TinyConfig(tied);
  config.vocabulary_size = damage.vocabulary_size;
  SafetensorsWriter writer;
  size_t index = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(config)) {
    std::vector<float> values = ValuesOf(tensor, index++);
    if (tensor.description.name == "model.layers.1.self_attn.k_proj.weight" &&
        damage.values) {
      damage.values(values);
    }
    if (tensor.description.name != damage.skip) {
      writer.Add(tensor.description.name, tensor.description.shape, "F32",
                 FloatBytes(values));
    }
  }
  if (!damage.add.empty()) {
    writer.Add(damage.add, {1}, "F32", FloatBytes({1}));
  }
  Json json = ConfigJson(config);
  if (damage.config) {
    damage.config(json);
  }
  directory.Write("config.json", json.dump());
  directory.Write("model.safetensors", writer.Bytes());
  directory.Write("tokenizer.json", kTokenizerJson);
}

// llama.cpp's permutation, written the other way round than the reader's: HF
// row (head, half j, i) goes to file row (head, i, j).
std::vector<float> Interleave(const std::vector<float>& rows, size_t columns) {
  std::vector<float> out;
  const size_t num_rows = rows.size() / columns;
  for (size_t head = 0; head < num_rows / kHeadDim; ++head) {
    for (size_t i = 0; i < kHeadDim / 2; ++i) {
      for (size_t j = 0; j < 2; ++j) {
        const size_t row = head * kHeadDim + j * kHeadDim / 2 + i;
        out.insert(out.end(),
                   rows.begin() + static_cast<ptrdiff_t>(row * columns),
                   rows.begin() + static_cast<ptrdiff_t>((row + 1) * columns));
      }
    }
  }
  return out;
}

std::string TinyGguf(bool tied) {
  const ModelConfig config = TinyConfig(tied);
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint("llama.block_count", 2);
  writer.AddUint("llama.context_length", 64);
  writer.AddUint("llama.embedding_length", 8);
  writer.AddUint("llama.feed_forward_length", 6);
  writer.AddUint("llama.attention.head_count", 2);
  writer.AddUint("llama.attention.head_count_kv", 1);
  writer.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.AddFloat("llama.rope.freq_base", 1e4f);
  writer.AddString("tokenizer.ggml.model", "gpt2");
  writer.AddString("tokenizer.ggml.pre", "smollm");
  writer.AddStrings("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab", "c"});
  writer.AddInts("tokenizer.ggml.token_type", {3, 1, 1, 1, 1});
  writer.AddStrings("tokenizer.ggml.merges", {"a b"});
  writer.AddUint("tokenizer.ggml.bos_token_id", 0);
  size_t index = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(config)) {
    std::vector<float> values = ValuesOf(tensor, index++);
    const Component component = tensor.description.component;
    if (component == Component::kQ || component == Component::kK) {
      values = Interleave(values, 8);
    }
    std::vector<uint64_t> shape(tensor.description.shape.begin(),
                                tensor.description.shape.end());
    writer.AddTensor({.name = tensor.gguf_name,
                      .shape = std::move(shape),
                      .data = FloatBytes(values)});
  }
  return writer.Bytes();
}

void ExpectAllTensors(const Checkpoint& checkpoint, bool tied) {
  size_t index = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(TinyConfig(tied))) {
    const std::vector<float> expected = ValuesOf(tensor, index++);
    std::vector<float> got(expected.size());
    QSWEEP_ASSERT_OK(checkpoint.ReadTensor(tensor.description.name, got));
    EXPECT_EQ(got, expected) << tensor.description.name;
  }
  std::vector<float> out(1);
  EXPECT_EQ(CodeOf(checkpoint.ReadTensor("model.layers.2.x", out)), "QS3008");
}

TEST(Checkpoint, ReadsAHuggingFaceDirectory) {
  for (const bool tied : {false, true}) {
    const TempDir directory;
    WriteHuggingFace(directory, tied);
    const auto checkpoint = Checkpoint::Open(directory.path());
    QSWEEP_ASSERT_OK(checkpoint);
    EXPECT_EQ((*checkpoint)->config().tied_head, tied);
    EXPECT_THAT((*checkpoint)->tokenizer().Encode("abb"), ElementsAre(2, 1));
    ExpectAllTensors(**checkpoint, tied);
  }
}

TEST(Checkpoint, ReadsAGgufFile_OrTheOneInADirectory) {
  for (const bool tied : {false, true}) {
    const TempDir directory;
    const std::string file = directory.Write("tiny.gguf", TinyGguf(tied));
    for (const std::string& path : {file, directory.path()}) {
      const auto checkpoint = Checkpoint::Open(path);
      QSWEEP_ASSERT_OK(checkpoint);
      EXPECT_EQ((*checkpoint)->config().tied_head, tied);
      EXPECT_EQ((*checkpoint)->tokenizer().bos(), 0);
      ExpectAllTensors(**checkpoint, tied);
    }
  }
}

TEST(Checkpoint, ReadsNoOtherPieceOfATensor_OnceItIsStopped) {
  const TempDir directory;
  WriteHuggingFace(
      directory, true,
      {.vocabulary_size = static_cast<int>(Checkpoint::kPieceValues / 4 + 1)});
  const auto large = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(large);
  const auto gguf =
      Checkpoint::Open(directory.Write("tiny.gguf", TinyGguf(true)));
  QSWEEP_ASSERT_OK(gguf);
  const size_t many = 2 * Checkpoint::kPieceValues + 8;
  struct Case {
    const Checkpoint& checkpoint;
    std::string name;
    size_t values;
    int questions;  // before each piece or row, and before it is looked at
  };
  for (const auto& [checkpoint, name, values, questions] :
       {Case{**large, "model.embed_tokens.weight", many, 3 + 3},
        Case{**gguf, "model.layers.0.self_attn.q_proj.weight", 64, 8 + 1},
        Case{**gguf, "model.layers.0.self_attn.v_proj.weight", 32, 1 + 1}}) {
    const std::vector<float> empty(values, -1.0f);
    for (int last = 1; last <= questions + 1; ++last) {
      std::vector<float> out = empty;
      int asked = 0;
      const absl::Status status = checkpoint.ReadTensor(
          name, out, [&, last = last] { return ++asked == last; });
      if (last > questions) {
        QSWEEP_EXPECT_OK(status);
        EXPECT_EQ(asked, questions) << name;
      } else {
        EXPECT_TRUE(absl::IsCancelled(status)) << status;
        EXPECT_EQ(asked, last) << name;
      }
      EXPECT_EQ(out == empty, last == 1) << name;
      if (values == many && last <= 3) {
        EXPECT_EQ(out[Checkpoint::kPieceValues] == -1, last < 3);
        EXPECT_EQ(out.back(), -1);
      }
    }
  }
}

TEST(Checkpoint, KnowsWhatAHuggingFaceDirectoryHoldsBesides) {
  for (const bool gguf : {true, false}) {
    const TempDir from;
    std::string path = from.path();
    if (gguf) {
      path = from.Write("tiny.gguf", TinyGguf(true));
    } else {
      WriteHuggingFace(from, true);
      from.Write("merges.txt", "a b");
      from.Write("other.txt", "no part of a model");
    }
    const auto checkpoint = Checkpoint::Open(path);
    QSWEEP_ASSERT_OK(checkpoint);
    const auto files = (*checkpoint)->SideFiles();
    QSWEEP_ASSERT_OK(files);
    EXPECT_EQ(files->size(), 3u);
    // With the weights they are the same model.
    const TempDir to;
    WriteHuggingFace(to, true);
    for (const SideFile& file : *files) {
      to.Write(file.name, file.content);
    }
    const auto again = Checkpoint::Open(to.path());
    QSWEEP_ASSERT_OK(again);
    ExpectAllTensors(**again, true);
    const ModelConfig& config = (*checkpoint)->config();
    EXPECT_EQ((*again)->config().rope_theta, config.rope_theta);
    EXPECT_EQ((*again)->config().rms_eps, config.rms_eps);
    EXPECT_EQ((*again)->config().context_length, config.context_length);
    EXPECT_EQ((*again)->config().tied_head, config.tied_head);
    EXPECT_EQ((*again)->tokenizer().bos(), (*checkpoint)->tokenizer().bos());
    EXPECT_EQ((*again)->tokenizer().Encode("abb c"),
              (*checkpoint)->tokenizer().Encode("abb c"));
  }
}

TEST(Checkpoint, GivesTheBytesOfPlainTensors_AndOfNoOthers) {
  const TempDir directory;
  const auto checkpoint =
      Checkpoint::Open(directory.Write("tiny.gguf", TinyGguf(false)));
  QSWEEP_ASSERT_OK(checkpoint);
  const auto head = (*checkpoint)->FindPlain("lm_head.weight");
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->type, TensorType::kF32);
  EXPECT_EQ(head->data.size(), 5u * 8 * 4);
  // Its rows are interleaved.
  EXPECT_FALSE(
      (*checkpoint)->FindPlain("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_FALSE((*checkpoint)->FindPlain("no tensor"));
}

TEST(Checkpoint, DescribesTheModel) {
  const TempDir directory;
  const auto checkpoint =
      Checkpoint::Open(directory.Write("tiny.gguf", TinyGguf(true)));
  QSWEEP_ASSERT_OK(checkpoint);
  const auto description = (*checkpoint)->Describe("");
  QSWEEP_ASSERT_OK(description);
  EXPECT_EQ(description->name, "tiny");
  EXPECT_EQ(description->family, "llama");
  EXPECT_EQ(description->layers, 2);
  EXPECT_EQ(description->hidden_size, 8);
  EXPECT_EQ(description->vocabulary_size, 5);
  EXPECT_EQ(description->context_length, 64);
  EXPECT_TRUE(description->tied_head);
  EXPECT_EQ(description->prequantized, "");
  EXPECT_EQ(description->tokenizer_digest, (*checkpoint)->tokenizer().digest());
  ASSERT_EQ(description->tensors.size(), 2u + 2 * 9);
  EXPECT_EQ(description->tensors[0].name, "model.embed_tokens.weight");
  EXPECT_EQ(description->tensors[0].stored_bits, 32);
  EXPECT_TRUE(std::is_sorted(
      description->tensors.begin(), description->tensors.end(),
      [](const TensorDescription& a, const TensorDescription& b) {
        return std::tuple(a.layer, a.component, a.bias) <
               std::tuple(b.layer, b.component, b.bias);
      }));
}

absl::StatusOr<Digest> DigestOfModel(const TempDir& directory,
                                     const std::string& cache = "") {
  const auto checkpoint = Checkpoint::Open(directory.path());
  if (!checkpoint.ok()) {
    return checkpoint.status();
  }
  const auto description = (*checkpoint)->Describe(cache);
  return description.ok() ? absl::StatusOr<Digest>(description->digest)
                          : description.status();
}

TEST(Checkpoint, DigestsConfigAndWeights_NotThePlace) {
  const TempDir one;
  const TempDir two;
  WriteHuggingFace(one, true);
  WriteHuggingFace(two, true);
  const auto digest = DigestOfModel(one);
  QSWEEP_ASSERT_OK(digest);
  EXPECT_EQ(DigestOfModel(two), digest);
  WriteHuggingFace(
      two, true, {.config = [](Json& json) { json["rope_theta"] = 20000.0; }});
  EXPECT_NE(DigestOfModel(two), digest);
  WriteHuggingFace(two, true, {.values = [](std::vector<float>& values) {
                     values[3] += 1;
                   }});
  EXPECT_NE(DigestOfModel(two), digest);
}

TEST(Checkpoint, RemembersDigests_AndNoticesAChangedFile) {
  const TempDir cache;
  const TempDir directory;
  WriteHuggingFace(directory, true);
  const auto digest = DigestOfModel(directory, cache.path());
  QSWEEP_ASSERT_OK(digest);
  EXPECT_EQ(DigestOfModel(directory), digest);
  EXPECT_EQ(DigestOfModel(directory, cache.path()), digest);

  // What is remembered is used: a doctored entry shows.
  int num_entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(cache.path())) {
    if (!absl::StartsWith(entry.path().filename().string(), "weights-")) {
      continue;
    }
    std::ifstream in(entry.path());
    std::string hex, identity;
    std::getline(in, hex);
    std::getline(in, identity);
    cache.Write(entry.path().filename().string(),
                absl::StrCat(Digest::Of("other").hex(), "\n", identity, "\n"));
    ++num_entries;
  }
  EXPECT_EQ(num_entries, 1);
  EXPECT_NE(DigestOfModel(directory, cache.path()), digest);

  // A file of another time is read again.
  const auto weights = directory / "model.safetensors";
  std::filesystem::last_write_time(
      weights,
      std::filesystem::last_write_time(weights) + std::chrono::seconds(1));
  EXPECT_EQ(DigestOfModel(directory, cache.path()), digest);
}

TEST(Checkpoint, RemembersWhatItsWeightsLookLike) {
  const TempDir cache;
  const TempDir directory;
  WriteHuggingFace(directory, true);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  const auto first = (*checkpoint)->Describe(cache.path());
  QSWEEP_ASSERT_OK(first);
  EXPECT_EQ(first->prequantized, "");
  const std::string name =
      absl::StrCat("model-", first->digest.hex().substr(0, 32));
  const std::string key = absl::StrCat("prequantized 1 ", first->digest.hex());
  cache.Write(name, absl::StrCat("doctored\n", key, "\n"));
  EXPECT_EQ((*checkpoint)->Describe(cache.path())->prequantized, "doctored");
  cache.Write(name, "doctored\nof another model\n");
  EXPECT_EQ((*checkpoint)->Describe(cache.path())->prequantized, "");
}

TEST(Checkpoint, StopsDescribing_WhenItIsTold) {
  const TempDir directory;
  WriteHuggingFace(directory, true);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  int all = 0;
  QSWEEP_ASSERT_OK((*checkpoint)->Describe("", [&] { return ++all == 0; }));
  ASSERT_GT(all, 2);
  for (int last = 1; last <= all; ++last) {  // hashing, then looking at weights
    int asked = 0;
    EXPECT_EQ((*checkpoint)
                  ->Describe("", [&] { return ++asked == last; })
                  .status()
                  .code(),
              absl::StatusCode::kCancelled);
    EXPECT_EQ(asked, last);
  }
}

TEST(Checkpoint, IgnoresAStoredHead_WhenTheConfigurationTiesIt) {
  const TempDir directory;
  WriteHuggingFace(directory, true, {.add = "lm_head.weight"});
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  EXPECT_TRUE((*checkpoint)->config().tied_head);
}

TEST(Checkpoint, NamesTensorAndElement_WhenAWeightIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          -std::numeric_limits<float>::infinity()}) {
    const TempDir directory;
    WriteHuggingFace(directory, true,
                     {.values = [bad](auto& values) { values[21] = bad; }});
    const auto checkpoint = Checkpoint::Open(directory.path());
    QSWEEP_ASSERT_OK(checkpoint);
    const std::string name = "model.layers.1.self_attn.k_proj.weight";
    std::vector<float> out(4 * 8);
    const absl::Status status = (*checkpoint)->ReadTensor(name, out);
    EXPECT_EQ(CodeOf(status), "QS3007");
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("element 21"));
    EXPECT_EQ(FieldOf(status), directory / "model.safetensors");
    EXPECT_FALSE(HintOf(status).empty());
  }
}

TEST(Checkpoint, RefusesModels_WhosePartsDoNotFit) {
  struct Case {
    const char* name;
    Damage damage;
    const char* code;
    const char* text;
  };
  for (const Case& c : {
           Case{"missing",
                {.skip = "model.layers.1.mlp.up_proj.weight"},
                "QS3008",
                "model.layers.1.mlp.up_proj.weight"},
           Case{"bias",
                {.add = "model.layers.0.self_attn.q_proj.bias"},
                "QS3004",
                "q_proj.bias"},
           Case{"shape",
                {.config = [](Json& json) { json["intermediate_size"] = 7; }},
                "QS3012",
                "shape [6, 8]"},
           Case{"untied",
                {.config =
                     [](Json& json) { json["tie_word_embeddings"] = false; }},
                "QS3008",
                "lm_head.weight"},
       }) {
    SCOPED_TRACE(c.name);
    const TempDir directory;
    WriteHuggingFace(directory, true, c.damage);
    const auto checkpoint = Checkpoint::Open(directory.path());
    EXPECT_EQ(CodeOf(checkpoint), c.code);
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(c.text));
  }
}

TEST(Checkpoint, RefusesATokenizer_WithMoreTokensThanTheModelEmbeds) {
  const TempDir directory;
  WriteHuggingFace(directory, true);
  directory.Write("tokenizer.json",
                  R"({"model": {"type": "BPE", "vocab": {"a": 5},
                      "merges": []}})");
  EXPECT_EQ(CodeOf(Checkpoint::Open(directory.path())), "QS3011");
}

TEST(Checkpoint, SaysNotFound_WhereThereIsNoModel) {
  const TempDir directory;
  const std::string path = directory.path();
  const auto missing = Checkpoint::Open(path + "/none");
  EXPECT_EQ(CodeOf(missing), "QS3001");
  EXPECT_EQ(FieldOf(missing), path + "/none");
  EXPECT_FALSE(HintOf(missing).empty());
  EXPECT_EQ(CodeOf(Checkpoint::Open(path)), "QS3001");
  EXPECT_EQ(CodeOf(Checkpoint::Open(directory.Write("x.txt", "x"))), "QS3001");
  directory.Write("1.gguf", "");
  EXPECT_EQ(CodeOf(Checkpoint::Open(path)), "QS3002");
  directory.Write("2.gguf", "");
  const auto several = Checkpoint::Open(path);
  EXPECT_EQ(CodeOf(several), "QS3001");
  EXPECT_THAT(std::string(several.status().message()), HasSubstr("2.gguf"));
  WriteHuggingFace(directory, true);
  std::filesystem::remove(directory / "model.safetensors");
  EXPECT_EQ(CodeOf(Checkpoint::Open(path)), "QS3001");
}

// Two shards: the embedding in one, everything else in the other.
void WriteShards(const TempDir& directory, bool lie_in_index) {
  const ModelConfig config = TinyConfig(true);
  SafetensorsWriter one;
  SafetensorsWriter two;
  Json map;
  size_t index = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(config)) {
    const std::string bytes = FloatBytes(ValuesOf(tensor, index));
    const std::string& name = tensor.description.name;
    (index == 0 ? one : two).Add(name, tensor.description.shape, "F32", bytes);
    map[name] =
        (index == 0) != lie_in_index ? "1.safetensors" : "2.safetensors";
    ++index;
  }
  directory.Write("config.json", ConfigJson(config).dump());
  directory.Write("tokenizer.json", kTokenizerJson);
  directory.Write("1.safetensors", one.Bytes());
  directory.Write("2.safetensors", two.Bytes());
  directory.Write("model.safetensors.index.json",
                  Json{{"weight_map", map}}.dump());
}

TEST(Checkpoint, ReadsShards) {
  const TempDir directory;
  WriteShards(directory, /*lie_in_index=*/false);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  ExpectAllTensors(**checkpoint, true);
  std::filesystem::remove(directory / "1.safetensors");
  EXPECT_EQ(CodeOf(Checkpoint::Open(directory.path())), "QS3001");
}

TEST(Checkpoint, RefusesShards_ThatAreNotWhatTheIndexSays) {
  const TempDir directory;
  WriteShards(directory, /*lie_in_index=*/true);
  EXPECT_EQ(CodeOf(Checkpoint::Open(directory.path())), "QS3008");
}

TEST(Checkpoint, NeverCrashes_OnATruncatedFile) {
  const std::string gguf = TinyGguf(true);
  const TempDir directory;
  for (size_t size = 0; size < gguf.size(); size += 31) {
    const std::string path = directory.Write("tiny.gguf", gguf.substr(0, size));
    EXPECT_EQ(CodeOf(Checkpoint::Open(path)), "QS3002") << size;
  }
}

}  // namespace
}  // namespace qsweep
