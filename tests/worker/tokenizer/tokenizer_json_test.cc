#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/base/random.h"
#include "tests/support/damage.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempDir;

using Json = nlohmann::json;

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const Json& json) {
  const TempDir directory;
  return LoadTokenizerJson(directory.Write("tokenizer.json", json.dump()));
}

TEST(LoadTokenizerJson, GivesTheOfficialIds_ForEveryPartItSupports) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/tokenizers.json");
  const Json golden = Json::parse(file);
  int num_cases = 0;
  for (const Json& variant : golden["tokenizers"]) {
    SCOPED_TRACE(variant["name"]);
    Json json = variant["json"];
    json["model"] = golden["models"][variant["model"].get<std::string>()];
    const auto tokenizer = Load(json);
    QSWEEP_ASSERT_OK(tokenizer);
    for (const Json& c : variant["cases"]) {
      const auto text = c["text"].get<std::string>();
      const auto ids = c["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ((*tokenizer)->EncodeWithSpecial(text), ids) << text;
      EXPECT_EQ((*tokenizer)->Encode(text),
                std::vector<int32_t>(ids.begin() + 1, ids.end() - 1))
          << text;
      ++num_cases;
    }
  }
  EXPECT_GT(num_cases, 1000);
}

// "ab" is a merge; "<e>" is special; every byte but a, b and c is unknown.
Json Small() {
  return Json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<e>", "special": true}],
    "normalizer": null, "post_processor": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3},
              "merges": ["a b"]}})");
}

TEST(Tokenizer, KnowsTheBytesOfItsTokens_AndItsSize) {
  const auto tokenizer = Load(Small());
  QSWEEP_ASSERT_OK(tokenizer);
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 5);
  EXPECT_EQ((*tokenizer)->TokenBytes(3), "ab");
  EXPECT_EQ((*tokenizer)->TokenBytes(4), "");  // special
  EXPECT_EQ((*tokenizer)->TokenBytes(-1), "");
  EXPECT_EQ((*tokenizer)->TokenBytes(5), "");
}

TEST(Tokenizer, TakesBrokenUtf8_AsReplacementCharacters) {
  Json json = Small();
  json["pre_tokenizer"] = nullptr;
  json["model"]["vocab"]["\xef\xbf\xbd"] = 5;
  const auto tokenizer = Load(json);
  QSWEEP_ASSERT_OK(tokenizer);
  // A lone continuation, a cut sequence, an overlong form, a surrogate.
  EXPECT_THAT((*tokenizer)
                  ->Encode("a\x80"
                           "b"),
              ElementsAre(0, 5, 1));
  EXPECT_THAT((*tokenizer)->Encode("a\xf0\x9f\x99"), ElementsAre(0, 5));
  EXPECT_THAT((*tokenizer)->Encode("\xc0\xaf"), ElementsAre(5, 5));
  EXPECT_THAT((*tokenizer)->Encode("\xed\xa0\x80"), ElementsAre(5, 5, 5));
  EXPECT_THAT((*tokenizer)->Encode(""), IsEmpty());
}

TEST(Tokenizer, StaysFast_WhenAWordIsVeryLong) {
  const auto tokenizer = Load(Small());
  QSWEEP_ASSERT_OK(tokenizer);
  std::string text;
  for (int i = 0; i < 200000; ++i) {
    text += "ab";
  }
  EXPECT_EQ((*tokenizer)->Encode(text), std::vector<int32_t>(200000, 3));
}

TEST(LoadTokenizerJson, FindsBosAndEos_BesideIt) {
  const TempDir directory;
  const std::string path = directory.Write("tokenizer.json", Small().dump());
  const auto bare = LoadTokenizerJson(path);
  QSWEEP_ASSERT_OK(bare);
  EXPECT_EQ((*bare)->bos(), std::nullopt);

  directory.Write("config.json", R"({"bos_token_id": 2, "eos_token_id": [1]})");
  const auto by_id = LoadTokenizerJson(path);
  QSWEEP_ASSERT_OK(by_id);
  EXPECT_EQ((*by_id)->bos(), 2);
  EXPECT_EQ((*by_id)->eos(), 1);

  directory.Write("tokenizer_config.json",
                  R"({"bos_token": {"content": "<e>"}, "eos_token": "<e>"})");
  const auto by_content = LoadTokenizerJson(path);
  QSWEEP_ASSERT_OK(by_content);
  EXPECT_EQ((*by_content)->bos(), 4);
  EXPECT_EQ((*by_content)->eos(), 4);
  EXPECT_NE((*by_content)->digest(), (*bare)->digest());
}

TEST(LoadTokenizerJson, NamesThePart_ThatIsNotSupported) {
  struct Case {
    const char* place;  // JSON pointer
    const char* value;
    const char* text;  // of the error
  };
  for (const Case& c : {
           Case{"/model/type", R"("Unigram")", "model 'Unigram'"},
           Case{"/model/dropout", "0.1", "dropout"},
           Case{"/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix"},
           Case{"/normalizer", R"({"type": "Lowercase"})",
                "normalizer 'Lowercase'"},
           Case{"/pre_tokenizer",
                R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"},
                    {"type": "BertPreTokenizer"}]})",
                "pretokenizers[1]: pre-tokenizer 'BertPreTokenizer'"},
           Case{"/pre_tokenizer",
                R"({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "\\w+"}})",
                "'\\w'"},
           Case{"/pre_tokenizer",
                R"({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "[a-z&&[^b]]"}})",
                "intersection"},
           Case{"/pre_tokenizer",
                R"({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "(a"}})",
                "regular expression"},
           Case{"/pre_tokenizer",
                R"json({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "(?R)"}})json",
                "'(?R'"},
           Case{"/pre_tokenizer",
                R"json({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "(*COMMIT)a"}})json",
                "'(*C'"},
           Case{"/pre_tokenizer",
                R"json({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "(a+)+b"}})json",
                "group that has repeats"},
           Case{"/pre_tokenizer",
                R"json({"type": "Split", "behavior": "Isolated",
                    "pattern": {"Regex": "(?:(?:a|b{1,3}))*b"}})json",
                "group that has repeats"},
           Case{"/post_processor", R"({"type": "BertProcessing"})",
                "post-processor 'BertProcessing'"},
       }) {
    SCOPED_TRACE(c.text);
    Json json = Small();
    json[Json::json_pointer(c.place)] = Json::parse(c.value);
    const auto tokenizer = Load(json);
    EXPECT_EQ(CodeOf(tokenizer), "QS3005");
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(c.text));
  }
}

TEST(LoadTokenizerJson, RefusesFiles_ThatContradictThemselves) {
  struct Case {
    const char* place;
    const char* value;
  };
  for (const Case& c : {
           Case{"/model/merges", R"(["a x"])"},
           Case{"/model/merges", R"(["ab"])"},
           Case{"/model/merges", R"([["a"]])"},
           Case{"/model/merges", "7"},
           Case{"/model/vocab", R"({"a": -1})"},
           Case{"/model/vocab", R"({"a": "0"})"},
           Case{"/model/vocab", R"({"a": 99999999999})"},
           Case{"/model/unk_token", R"("<unk>")"},
           Case{"/model", "[]"},
           Case{"/added_tokens", R"([{"content": "x"}])"},
           Case{"/added_tokens", R"([{"id": 2147483646, "content": "x"}])"},
           Case{"/pre_tokenizer", R"({"add_prefix_space": true})"},
           Case{"/pre_tokenizer",
                R"({"type": "Metaspace", "replacement": ""})"},
           Case{"/post_processor",
                R"({"type": "TemplateProcessing", "special_tokens": {},
                    "single": [{"SpecialToken": {"id": "<s>"}},
                               {"Sequence": {"id": "A"}}]})"},
           Case{"/post_processor",
                R"({"type": "TemplateProcessing",
                    "special_tokens": {"<s>": {"ids": [9]}},
                    "single": [{"SpecialToken": {"id": "<s>"}},
                               {"Sequence": {"id": "A"}}]})"},
       }) {
    SCOPED_TRACE(c.value);
    Json json = Small();
    json[Json::json_pointer(c.place)] = Json::parse(c.value);
    EXPECT_EQ(CodeOf(Load(json)), "QS3003");
  }
}

TEST(LoadTokenizerJson, NeverCrashes_OnATruncatedFile) {
  const std::string whole = Small().dump();
  const TempDir directory;
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(CodeOf(LoadTokenizerJson(
                  directory.Write("tokenizer.json", whole.substr(0, size)))),
              "QS3003");
  }
}

// Every part the golden file has, damaged; and any bytes as text.
TEST(LoadTokenizerJson, ReadsOrRefusesWithACode_WhateverTheBytes) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/tokenizers.json");
  const Json golden = Json::parse(file);
  const TempDir directory;
  Random random(13);
  int num_read = 0;
  int num_refused = 0;
  for (const Json& variant : golden["tokenizers"]) {
    Json json = variant["json"];
    json["model"] = Small()["model"];
    const std::string whole = json.dump();
    for (int round = 0; round < 60; ++round) {
      const std::string bytes = testing::Damaged(whole, random);
      SCOPED_TRACE(bytes);
      const auto tokenizer =
          LoadTokenizerJson(directory.Write("tokenizer.json", bytes));
      if (!tokenizer.ok()) {
        ASSERT_THAT(CodeOf(tokenizer), HasSubstr("QS300"));
        ++num_refused;
        continue;
      }
      for (const int32_t id :
           (*tokenizer)
               ->EncodeWithSpecial(testing::Damaged(
                   "ab <e> \xd7\x94 \xf0\x9f\x98\x80 12", random))) {
        (*tokenizer)->TokenBytes(id);
      }
      ++num_read;
    }
  }
  EXPECT_GT(num_read, 50);
  EXPECT_GT(num_refused, 50);
}

TEST(LoadTokenizerJson, SaysNotFound_WhenThereIsNoFile) {
  const TempDir directory;
  EXPECT_EQ(CodeOf(LoadTokenizerJson(directory / "x")), "QS3001");
  EXPECT_EQ(CodeOf(LoadTokenizerJson(directory.path())), "QS3001");
}

}  // namespace
}  // namespace qsweep
