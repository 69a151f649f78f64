#include "worker/eval/evaluation.h"

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace qsweep {
namespace {

using testing::ElementsAre;

// A token per byte; 256 is BOS, 257 EOS, each only where asked for.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer(bool has_bos, bool has_eos, bool adds_bos)
      : has_bos_(has_bos), has_eos_(has_eos), adds_bos_(adds_bos) {}

  std::vector<int32_t> Encode(absl::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) {
      ids.push_back(static_cast<unsigned char>(c));
    }
    return ids;
  }
  std::vector<int32_t> EncodeWithSpecial(
      absl::string_view text) const override {
    std::vector<int32_t> ids = Encode(text);
    if (adds_bos_) {
      ids.insert(ids.begin(), 256);
    }
    return ids;
  }
  std::string TokenBytes(int32_t id) const override {
    return id < 256 ? std::string(1, static_cast<char>(id)) : "";
  }
  int vocabulary_size() const override { return 258; }
  std::optional<int32_t> bos() const override {
    return has_bos_ ? std::optional<int32_t>(256) : std::nullopt;
  }
  std::optional<int32_t> eos() const override {
    return has_eos_ ? std::optional<int32_t>(257) : std::nullopt;
  }
  const Digest& digest() const override { return digest_; }

 private:
  bool has_bos_, has_eos_, adds_bos_;
  Digest digest_ = Digest::Of("bytes");
};

const ByteTokenizer kPlain(true, true, false);

TokenizedDocument Tokenize(const Tokenizer& tokenizer, Convention convention,
                           absl::string_view text, int context = 100,
                           int max_tokens = 0) {
  return TokenizeDocument(tokenizer,
                          {.convention = convention, .max_tokens = max_tokens},
                          context, text)
      .value();
}

TEST(ParseEvaluation, ReadsWhatTheKeyHolds) {
  const std::string tok = Digest::Of("x").hex();
  const auto aligned = ParseEvaluation("aligned@1;tok=" + tok);
  ASSERT_TRUE(aligned.ok()) << aligned.status();
  EXPECT_EQ(aligned->convention, Convention::kAligned);
  EXPECT_EQ(aligned->tokenizer_digest, Digest::Of("x"));
  EXPECT_EQ(aligned->max_tokens, 0);
  const auto hf = ParseEvaluation("hf-text@1;tok=" + tok + ";max_tokens=77");
  ASSERT_TRUE(hf.ok()) << hf.status();
  EXPECT_EQ(hf->convention, Convention::kHfText);
  EXPECT_EQ(hf->max_tokens, 77);
}

TEST(ParseEvaluation, Refuses_WhenThisBuildCannotScoreIt) {
  const std::string tok = ";tok=" + Digest::Of("x").hex();
  for (const std::string& text :
       {std::string(""), "aligned@2" + tok, "rolling@1" + tok,
        std::string("aligned@1"), std::string("aligned@1;tok=12"),
        "aligned@1" + tok + ";max_tokens=0", "aligned@1" + tok + ";new=1",
        "aligned@1" + tok + ";max_tokens=06", "aligned@1" + tok + tok,
        "aligned@1;max_tokens=6" + tok}) {
    const absl::Status status = ParseEvaluation(text).status();
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_EQ(GetErrorInfo(status)->code, "QS1052") << text;
  }
}

TEST(TokenizeDocument, ScoresEveryToken_WhenAligned) {
  const TokenizedDocument document =
      Tokenize(kPlain, Convention::kAligned, "a\xC3\xA9");
  EXPECT_THAT(document.ids, ElementsAre(256, 'a', 0xC3, 0xA9));
  EXPECT_EQ(document.num_scored(), 3);
  EXPECT_EQ(document.bytes, 3u);
  EXPECT_EQ(document.bytes_scored, 3u);
  EXPECT_EQ(document.chars, 2u);
  EXPECT_EQ(document.status, RowStatus::kOk);
}

TEST(TokenizeDocument, StartsWithEos_WhenAlignedAndThereIsNoBos) {
  const ByteTokenizer tokenizer(false, true, false);
  EXPECT_THAT(Tokenize(tokenizer, Convention::kAligned, "a").ids,
              ElementsAre(257, 'a'));
}

TEST(TokenizeDocument, Fails_WhenAlignedAndThereIsNeitherBosNorEos) {
  const ByteTokenizer tokenizer(false, false, false);
  const absl::Status status =
      TokenizeDocument(tokenizer, {.convention = Convention::kAligned}, 10, "a")
          .status();
  EXPECT_EQ(GetErrorInfo(status)->code, "QS3005");
}

TEST(TokenizeDocument, LeavesTheFirstTokenOut_WhenHfText) {
  const TokenizedDocument document =
      Tokenize(kPlain, Convention::kHfText, "abc");
  EXPECT_THAT(document.ids, ElementsAre('a', 'b', 'c'));
  EXPECT_EQ(document.num_scored(), 2);
  EXPECT_EQ(document.bytes, 3u);
  EXPECT_EQ(document.bytes_scored, 2u);
}

TEST(TokenizeDocument, KeepsWhatTheTokenizerAdds_WhenHfText) {
  const ByteTokenizer tokenizer(true, true, true);
  const TokenizedDocument document =
      Tokenize(tokenizer, Convention::kHfText, "ab");
  EXPECT_THAT(document.ids, ElementsAre(256, 'a', 'b'));
  EXPECT_EQ(document.bytes_scored, 2u);
}

TEST(TokenizeDocument, SaysWhyThereAreNoSums) {
  struct Case {
    const char* text;
    Convention convention;
    int context, max_tokens;
    RowStatus want;
  };
  for (const Case& c : {
           Case{"", Convention::kAligned, 10, 0, RowStatus::kEmpty},
           Case{"", Convention::kHfText, 10, 0, RowStatus::kEmpty},
           Case{"a", Convention::kAligned, 10, 0, RowStatus::kOk},
           Case{"a", Convention::kHfText, 10, 0, RowStatus::kOneToken},
           Case{"abcd", Convention::kHfText, 4, 0, RowStatus::kOk},
           Case{"abcde", Convention::kHfText, 4, 0, RowStatus::kTooLong},
           Case{"abcd", Convention::kAligned, 4, 0, RowStatus::kTooLong},
           Case{"abcd", Convention::kHfText, 100, 3, RowStatus::kTooLong},
           Case{"abc", Convention::kHfText, 100, 3, RowStatus::kOk},
           Case{"abcd", Convention::kHfText, 3, 100, RowStatus::kTooLong},
       }) {
    EXPECT_EQ(
        Tokenize(kPlain, c.convention, c.text, c.context, c.max_tokens).status,
        c.want)
        << c.text << " " << c.context << " " << c.max_tokens;
  }
}

TEST(UnigramNll, FitsOnTheOtherDocuments) {
  std::vector<TokenizedDocument> documents;
  for (const char* text : {"aab", "ac", "aa"}) {
    documents.push_back(Tokenize(kPlain, Convention::kAligned, text));
  }
  // "aab" against a:3 c:1 -> 4 tokens, 2 kinds, one class for the rest: 5.5.
  // "ac" against a:4 b:1 -> 5 + 1.5; "aa" against a:3 b:1 c:1 -> 5 + 2.
  EXPECT_THAT(
      UnigramNll(documents),
      ElementsAre(testing::DoubleNear(
                      -2 * std::log(3.5 / 5.5) - std::log(0.5 / 5.5), 1e-12),
                  testing::DoubleNear(
                      -std::log(4.5 / 6.5) - std::log(0.5 / 6.5), 1e-12),
                  testing::DoubleNear(-2 * std::log(3.5 / 7), 1e-12)));
}

TEST(UnigramNll, CountsScoredTokensOnly_WhenHfText) {
  std::vector<TokenizedDocument> documents;
  for (const char* text : {"ab", "ab"}) {
    documents.push_back(Tokenize(kPlain, Convention::kHfText, text));
  }
  // Only b is scored: b:1 in the other document, one kind.
  EXPECT_THAT(UnigramNll(documents),
              ElementsAre(testing::DoubleNear(-std::log(1.5 / 2), 1e-12),
                          testing::DoubleNear(-std::log(1.5 / 2), 1e-12)));
}

TEST(UnigramNll, IsUniform_WhenThereIsNoOtherDocument) {
  const std::vector<TokenizedDocument> documents = {
      Tokenize(kPlain, Convention::kAligned, "ab")};
  EXPECT_THAT(UnigramNll(documents), ElementsAre(0));
}

}  // namespace
}  // namespace qsweep
