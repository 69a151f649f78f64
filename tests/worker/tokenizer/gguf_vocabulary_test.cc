#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// "Ġ" is a space in GPT-2's alphabet.
GgufVocabulary SmallVocabulary() {
  return {.model = "gpt2",
          .pre = "smollm",
          .tokens = {"<s>", "a", "b", "\xc4\xa0", "1", "2", "ab",
                     "\xc4\xa0"
                     "ab",
                     "12", "USER"},
          .token_types = {3, 1, 1, 1, 1, 1, 1, 1, 1, 4},
          .merges = {"a b", "\xc4\xa0 ab", "1 2"},
          .bos = 0,
          .eos = 0};
}

TEST(MakeGgufTokenizer, KeepsDigitsApart_WhenPreIsSmollm) {
  const auto tokenizer = MakeGgufTokenizer(SmallVocabulary());
  QSWEEP_ASSERT_OK(tokenizer);
  EXPECT_THAT((*tokenizer)->Encode("ab ab12"), ElementsAre(6, 7, 4, 5));
}

TEST(MakeGgufTokenizer, MergesDigits_WhenPreIsGpt2OrLlama3) {
  for (const char* pre : {"gpt-2", "llama-bpe"}) {
    GgufVocabulary vocabulary = SmallVocabulary();
    vocabulary.pre = pre;
    const auto tokenizer = MakeGgufTokenizer(std::move(vocabulary));
    QSWEEP_ASSERT_OK(tokenizer);
    EXPECT_THAT((*tokenizer)->Encode("ab12"), ElementsAre(6, 8));
  }
}

TEST(MakeGgufTokenizer, FindsControlAndUserTokens_InTheText) {
  const auto tokenizer = MakeGgufTokenizer(SmallVocabulary());
  QSWEEP_ASSERT_OK(tokenizer);
  EXPECT_THAT((*tokenizer)->Encode("a<s>bUSERb"), ElementsAre(1, 0, 2, 9, 2));
  EXPECT_EQ((*tokenizer)->TokenBytes(0), "");
  EXPECT_EQ((*tokenizer)->TokenBytes(7), " ab");
  EXPECT_EQ((*tokenizer)->TokenBytes(9), "USER");
}

TEST(MakeGgufTokenizer, AddsBos_OnlyWhenTheFileSaysSo) {
  const auto without = MakeGgufTokenizer(SmallVocabulary());
  QSWEEP_ASSERT_OK(without);
  EXPECT_THAT((*without)->EncodeWithSpecial("a"), ElementsAre(1));
  GgufVocabulary vocabulary = SmallVocabulary();
  vocabulary.add_bos = true;
  const auto with = MakeGgufTokenizer(std::move(vocabulary));
  QSWEEP_ASSERT_OK(with);
  EXPECT_THAT((*with)->EncodeWithSpecial("a"), ElementsAre(0, 1));
  EXPECT_NE((*with)->digest(), (*without)->digest());
}

TEST(FormatTokenizerJson, MakesTheSameTokenizer_ForEveryPre) {
  for (const char* pre : {"smollm", "gpt-2", "llama-bpe"}) {
    for (const bool add_bos : {false, true}) {
      SCOPED_TRACE(::testing::Message() << pre << " " << add_bos);
      GgufVocabulary vocabulary = SmallVocabulary();
      vocabulary.pre = pre;
      vocabulary.add_bos = add_bos;
      vocabulary.tokens.insert(vocabulary.tokens.end(), {"\"", "\\", "\x01"});
      vocabulary.token_types.insert(vocabulary.token_types.end(), 3, 1);
      const testing::TempDir directory;
      const auto again = LoadTokenizerJson(
          directory.Write("tokenizer.json", FormatTokenizerJson(vocabulary)));
      QSWEEP_ASSERT_OK(again);
      const auto tokenizer = MakeGgufTokenizer(std::move(vocabulary));
      QSWEEP_ASSERT_OK(tokenizer);
      for (const char* text :
           {"ab ab12", "a<s>bUSERb", "", "\"a\\b\"", "1a2 12b"}) {
        EXPECT_EQ((*again)->Encode(text), (*tokenizer)->Encode(text));
        EXPECT_EQ((*again)->EncodeWithSpecial(text),
                  (*tokenizer)->EncodeWithSpecial(text));
      }
      EXPECT_EQ((*again)->TokenBytes(0), "");
      EXPECT_EQ((*again)->TokenBytes(9), "USER");
      EXPECT_EQ((*again)->vocabulary_size(), (*tokenizer)->vocabulary_size());
    }
  }
}

TEST(MakeGgufTokenizer, RefusesAnotherModelOrPre_AndNamesIt) {
  GgufVocabulary sentencepiece = SmallVocabulary();
  sentencepiece.model = "llama";
  const auto model = MakeGgufTokenizer(sentencepiece);
  EXPECT_EQ(CodeOf(model), "QS3005");
  EXPECT_THAT(std::string(model.status().message()), HasSubstr("'llama'"));
  GgufVocabulary other = SmallVocabulary();
  other.pre = "tekken";
  const auto pre = MakeGgufTokenizer(other);
  EXPECT_EQ(CodeOf(pre), "QS3005");
  EXPECT_THAT(std::string(pre.status().message()), HasSubstr("'tekken'"));
}

TEST(MakeGgufTokenizer, RefusesVocabularies_ThatContradictThemselves) {
  struct Case {
    const char* name;
    void (*damage)(GgufVocabulary&);
  };
  for (const Case& c : {
           Case{"no tokens", [](GgufVocabulary& v) { v.tokens.clear(); }},
           Case{"types", [](GgufVocabulary& v) { v.token_types.pop_back(); }},
           Case{"twice", [](GgufVocabulary& v) { v.tokens[2] = "a"; }},
           Case{"not UTF-8", [](GgufVocabulary& v) { v.tokens[8] = "\xf0"; }},
           Case{"merge", [](GgufVocabulary& v) { v.merges[0] = "ab"; }},
           Case{"unknown", [](GgufVocabulary& v) { v.merges[0] = "a x"; }},
           Case{"bos", [](GgufVocabulary& v) { v.bos = 10; }},
           Case{"eos", [](GgufVocabulary& v) { v.eos = -1; }},
           Case{"add bos",
                [](GgufVocabulary& v) {
                  v.bos.reset();
                  v.add_bos = true;
                }},
       }) {
    SCOPED_TRACE(c.name);
    GgufVocabulary vocabulary = SmallVocabulary();
    c.damage(vocabulary);
    EXPECT_EQ(CodeOf(MakeGgufTokenizer(vocabulary)), "QS3003");
  }
}

}  // namespace
}  // namespace qsweep
