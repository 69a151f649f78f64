#include "worker/engine/code_cache.h"

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using kernels::CodedTensor;
using testing::CodeOf;
using testing::TempDir;
namespace fs = std::filesystem;

// 3 rows of 5 columns in 2 groups: an odd number of codes.
CodedTensor SomeCodes(int bits) {
  CodedTensor coded{.rows = 3,
                    .columns = 5,
                    .bits = bits,
                    .groups = 2,
                    .group_of_column = {0, 1, 0, 1, 1},
                    .scales = {.5f, 1, 2, 4, 8, 16},
                    .zeros = {1, 2, 3, 0, 1, 2}};
  for (int i = 0; i < 15; ++i) {
    coded.codes.push_back(static_cast<uint8_t>(i * 7 % (1 << bits)));
  }
  return coded;
}

ModelDescription SomeModel() {
  ModelDescription model;
  model.digest = Digest::Of("model");
  model.tokenizer_digest = Digest::Of("tokenizer");
  return model;
}

TEST(SerializeCodes, ParsesBackToTheSame) {
  for (const int bits : {2, 4, 8}) {
    const auto coded = ParseCodes(SerializeCodes(SomeCodes(bits)));
    QSWEEP_ASSERT_OK(coded);
    EXPECT_EQ(*coded, SomeCodes(bits));
  }
  CodedTensor scaled = SomeCodes(3);
  scaled.column_scales = {1, .5f, 2, 3, 4};
  const auto coded = ParseCodes(SerializeCodes(scaled));
  QSWEEP_ASSERT_OK(coded);
  EXPECT_EQ(*coded, scaled);
}

TEST(ParseCodes, RefusesEveryDamagedByteAndEveryCut) {
  const std::string whole = SerializeCodes(SomeCodes(4));
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_EQ(ParseCodes(damaged).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(ParseCodes(whole.substr(0, i)).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(ParseCodes, RefusesAGroupThatIsNotThere_WhateverTheDigest) {
  CodedTensor coded = SomeCodes(4);
  coded.group_of_column[3] = 2;
  EXPECT_FALSE(ParseCodes(SerializeCodes(coded)).ok());
}

TEST(CodeCache, KeepsWhatWasStored_ForTheNextEngineToo) {
  const TempDir directory;
  const std::string path = absl::StrCat(directory.path(), "/a/codes");
  const Digest key = Digest::Of("key");
  {
    CodeCache cache(path, "engine 1", 1 << 20);
    EXPECT_EQ(cache.Find(key).status().code(), absl::StatusCode::kNotFound);
    QSWEEP_ASSERT_OK(cache.Store(key, SomeCodes(4)));
  }
  const CodeCache cache(path, "engine 1", 1 << 20);
  const auto found = cache.Find(key);
  QSWEEP_ASSERT_OK(found);
  EXPECT_EQ(**found, SomeCodes(4));
}

TEST(CodeCache, TakesADamagedFileForNone) {
  const TempDir directory;
  CodeCache cache(directory.path(), "engine 1", 1 << 20);
  const Digest key = Digest::Of("key");
  directory.Write(absl::StrCat(key.hex(), ".codes"), "qsweep-codes 1\nhalf");
  EXPECT_FALSE(cache.Has(key));
  EXPECT_FALSE(cache.Find(key).ok());
}

TEST(CodeCache, RemovesAFileOfTheRightSize_WhenItIsFoundDamaged) {
  const TempDir directory;
  CodeCache cache(directory.path(), "engine 1", 1 << 20);
  const Digest key = Digest::Of("key");
  std::string bytes = SerializeCodes(SomeCodes(4));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  directory.Write(absl::StrCat(key.hex(), ".codes"), bytes);
  EXPECT_TRUE(cache.Has(key));
  EXPECT_FALSE(cache.Find(key).ok());
  EXPECT_FALSE(cache.Has(key));
}

TEST(CodeCache, HasWhatIsWhole_WithoutReadingIt) {
  const TempDir directory;
  for (const std::string& path : {directory.path(), std::string()}) {
    CodeCache cache(path, "engine 1", 1 << 20);
    for (const int bits : {3, 4, 8}) {
      CodedTensor coded = SomeCodes(bits);
      if (bits == 3) {
        coded.column_scales = {1, .5f, 2, 3, 4};
      }
      const Digest key = Digest::Of(absl::StrCat(bits));
      EXPECT_FALSE(cache.Has(key));
      QSWEEP_ASSERT_OK(cache.Store(key, coded));
      EXPECT_TRUE(cache.Has(key));
    }
  }
  const std::string whole = SerializeCodes(SomeCodes(4));
  const CodeCache cache(directory.path(), "engine 1", 1 << 20);
  const Digest cut = Digest::Of("cut");
  for (size_t size = 0; size < whole.size(); ++size) {
    directory.Write(absl::StrCat(cut.hex(), ".codes"), whole.substr(0, size));
    EXPECT_FALSE(cache.Has(cut));
  }
}

TEST(CodeCache, RemovesTheFilesThatWereNotUsedForLongest) {
  const TempDir directory;
  const auto size = static_cast<int64_t>(SerializeCodes(SomeCodes(4)).size());
  CodeCache cache(directory.path(), "engine 1", 2 * size);
  std::vector<Digest> keys;
  for (const char* name : {"a", "b", "c"}) {
    keys.push_back(Digest::Of(name));
    QSWEEP_ASSERT_OK(cache.Store(keys.back(), SomeCodes(4)));
    fs::last_write_time(
        absl::StrCat(directory.path(), "/", keys.back().hex(), ".codes"),
        fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  QSWEEP_ASSERT_OK(cache.Find(keys[0]));
  QSWEEP_ASSERT_OK(cache.Find(keys[2]));
  cache.MakeRoom();
  QSWEEP_EXPECT_OK(cache.Find(keys[0]));
  EXPECT_FALSE(cache.Find(keys[1]).ok());
  QSWEEP_EXPECT_OK(cache.Find(keys[2]));
}

TEST(CodeCache, ReadsWhatAnotherEngineRemoved_UntilTheTaskIsOver) {
  const TempDir directory;
  const Digest stored = Digest::Of("stored");
  const Digest asked = Digest::Of("asked");
  directory.Write(absl::StrCat(asked.hex(), ".codes"),
                  SerializeCodes(SomeCodes(3)));
  CodeCache cache(directory.path(), "engine 1", 1 << 20);
  EXPECT_TRUE(cache.Has(asked));
  QSWEEP_ASSERT_OK(cache.Store(stored, SomeCodes(4)));
  CodeCache(directory.path(), "engine 2", 0).MakeRoom();
  ASSERT_TRUE(fs::is_empty(directory.path()));
  for (const Digest& key : {asked, stored}) {
    EXPECT_TRUE(cache.Has(key));
    const auto found = cache.Find(key);
    QSWEEP_ASSERT_OK(found);
    EXPECT_EQ(**found, SomeCodes(key == asked ? 3 : 4));
  }
  cache.MakeRoom();
  EXPECT_FALSE(cache.Has(stored));
  EXPECT_FALSE(cache.Find(asked).ok());
}

TEST(CodeCache, KeepsCodesInMemory_WithoutADirectory) {
  CodeCache cache("", "engine 1", 20);
  QSWEEP_ASSERT_OK(cache.Store(Digest::Of("a"), SomeCodes(4)));
  cache.MakeRoom();
  QSWEEP_EXPECT_OK(cache.Find(Digest::Of("a")));
  QSWEEP_ASSERT_OK(cache.Store(Digest::Of("b"), SomeCodes(4)));
  cache.MakeRoom();
  EXPECT_FALSE(cache.Find(Digest::Of("a")).ok());
}

TEST(CodeCache, HasTheDigestOfWhatAConfigurationWasMadeOf) {
  const TempDir directory;
  ModelDescription model = SomeModel();
  for (const char* name : {"q", "norm", "k"}) {
    model.tensors.push_back({.name = name});
  }
  const Scheme scheme = ParseQuantizer("gptq:texts=0123456789abcdef")->scheme;
  Configuration configuration;
  configuration.schemes = {scheme, std::nullopt, scheme};
  const std::string hex = [] {  // of the codes alone
    const std::string bytes = SerializeCodes(SomeCodes(4));
    return Digest::Of(bytes.substr(0, bytes.size() - 32)).hex();
  }();
  for (const std::string& path : {directory.path(), std::string()}) {
    CodeCache cache(path, "engine 1", 1 << 20);
    for (const char* name : {"q", "k"}) {
      const Digest key = cache.Key(model, name, scheme);
      QSWEEP_ASSERT_OK(cache.Store(key, SomeCodes(4)));
      QSWEEP_ASSERT_OK(cache.Find(key));
    }
    EXPECT_EQ(cache.DigestOf(model, configuration),
              Digest::Of(absl::StrCat("qsweep-configuration-codes 1\nq ", hex,
                                      "\nk ", hex, "\n")));
    Configuration kept;
    kept.schemes = {std::nullopt, ParseQuantizer("rtn")->scheme, std::nullopt};
    EXPECT_TRUE(cache.DigestOf(model, kept).empty());
  }
}

TEST(CodeCache, SaysSo_WhenItCannotWrite) {
  const TempDir directory;
  directory.Write("file", "");
  CodeCache cache(absl::StrCat(directory.path(), "/file"), "engine 1", 1 << 20);
  EXPECT_EQ(CodeOf(cache.Store(Digest::Of("a"), SomeCodes(4))), "QS7002");
}

TEST(CodeCache, HasAKeyForAllThatCodesFollowFrom) {
  const CodeCache cache("", "engine 1", 0);
  const ModelDescription model = SomeModel();
  const Scheme scheme = ParseQuantizer("gptq:texts=0123456789abcdef")->scheme;
  const Digest key = cache.Key(model, "q", scheme);
  EXPECT_EQ(cache.Key(model, "q", scheme), key);
  EXPECT_NE(cache.Key(model, "k", scheme), key);
  EXPECT_NE(CodeCache("", "engine 2", 0).Key(model, "q", scheme), key);
  Scheme other = scheme;
  other.calibration_texts = 1;
  EXPECT_NE(cache.Key(model, "q", other), key);
  other = scheme;
  other.damp_millionths = 1;
  EXPECT_NE(cache.Key(model, "q", other), key);
  ModelDescription tokenizer = model;
  tokenizer.tokenizer_digest = Digest::Of("other");
  EXPECT_NE(cache.Key(tokenizer, "q", scheme), key);
}

}  // namespace
}  // namespace qsweep
