#include "common/job/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus_readers.h"
#include "common/job/did_you_mean.h"
#include "common/job/utf8.h"

namespace qsweep {
namespace {

constexpr uintmax_t kLargestFile = uintmax_t{1} << 30;
constexpr size_t kLongestCode = 64;
constexpr size_t kLongestId = 256;
constexpr char kArtifactHeader[] = "qsweep-language-corpus 1\n";

// Codes stand in tables, CSV and selectors: no separators in them.
bool IsLanguageCode(absl::string_view code) {
  return !code.empty() && code.size() <= kLongestCode &&
         absl::ascii_isalnum(code.front()) &&
         std::all_of(code.begin(), code.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.';
         });
}

bool IsDocumentId(absl::string_view id) {
  return !id.empty() && id.size() <= kLongestId && IsValidUtf8(id) &&
         std::none_of(id.begin(), id.end(),
                      [](char c) { return absl::ascii_iscntrl(c); });
}

absl::Status CheckLanguage(const v1::LanguageCorpus& language) {
  if (!IsLanguageCode(language.language())) {
    return MakeError(
        kUnreadableCorpus,
        absl::StrCat("\"", language.language(), "\" is not a language code"),
        language.language(), "Use letters, digits, \"-\", \"_\" and \".\".");
  }
  if (language.documents().empty()) {
    return MakeError(
        kNoDocuments,
        absl::StrCat("language ", language.language(), " has no documents"),
        language.language());
  }
  std::set<absl::string_view> ids;
  for (const v1::Document& document : language.documents()) {
    const std::string place =
        absl::StrCat(language.language(), "/", document.id());
    if (!IsDocumentId(document.id())) {
      return MakeError(kUnreadableCorpus,
                       absl::StrCat("language ", language.language(),
                                    " has a document without a usable id"),
                       language.language());
    }
    if (!IsValidUtf8(document.text())) {
      return MakeError(kUnreadableCorpus,
                       absl::StrCat("document ", place, " is not UTF-8"),
                       place);
    }
    if (!ids.insert(document.id()).second) {
      return MakeError(kDuplicateDocument,
                       absl::StrCat("document ", place, " is there twice"),
                       place);
    }
  }
  return absl::OkStatus();
}

// Describes one checked language; digests its documents and its artifact.
v1::CorpusLanguage Describe(LanguageText& text, std::string& artifact) {
  v1::CorpusLanguage described;
  described.set_language(text.corpus.language());
  described.set_bcp47(text.bcp47);
  described.set_name(text.name);
  for (const std::string& alias : text.aliases) {
    described.add_aliases(alias);
  }
  uint64_t bytes = 0;
  for (v1::Document& document : *text.corpus.mutable_documents()) {
    document.set_digest(Digest::Of(document.text()).bytes());
    bytes += document.text().size();
    described.add_document_ids(document.id());
    described.add_document_digests(document.digest());
    described.add_document_bytes(document.text().size());
  }
  described.set_documents(static_cast<uint32_t>(text.corpus.documents_size()));
  described.set_bytes(bytes);
  artifact = SerializeLanguageCorpus(text.corpus);
  described.set_artifact_digest(Digest::Of(artifact).bytes());
  return described;
}

// What MakeCorpus keeps: all, or the wanted ones.
absl::StatusOr<std::vector<int>> Choose(
    absl::string_view name, const std::vector<LanguageText>& languages,
    std::span<const std::string> wanted) {
  v1::Corpus names;
  names.set_name(std::string(name));
  for (const LanguageText& language : languages) {
    v1::CorpusLanguage& added = *names.add_languages();
    added.set_language(language.corpus.language());
    for (const std::string& alias : language.aliases) {
      added.add_aliases(alias);
    }
  }
  return ResolveLanguages(names, wanted);
}

// Reads "<number> " or "<number>\n" off the front of bytes.
bool TakeNumber(absl::string_view& bytes, char end, uint64_t& number) {
  const size_t at = bytes.find(end);
  // SimpleAtoi takes blanks and signs; the format has neither.
  if (at == absl::string_view::npos || at == 0 ||
      !absl::ascii_isdigit(bytes.front()) ||
      !absl::SimpleAtoi(bytes.substr(0, at), &number) ||
      absl::StrCat(number) != bytes.substr(0, at)) {
    return false;
  }
  bytes.remove_prefix(at + 1);
  return true;
}

bool TakeBytes(absl::string_view& bytes, uint64_t size, std::string& out) {
  if (size > bytes.size()) {
    return false;
  }
  out = std::string(bytes.substr(0, size));
  bytes.remove_prefix(size);
  return true;
}

bool TakeLanguageCorpus(absl::string_view bytes, v1::LanguageCorpus& out) {
  uint64_t size = 0;
  uint64_t documents = 0;
  if (!absl::ConsumePrefix(&bytes, kArtifactHeader) ||
      !TakeNumber(bytes, ' ', size) || !TakeNumber(bytes, '\n', documents) ||
      !TakeBytes(bytes, size, *out.mutable_language()) ||
      !absl::ConsumePrefix(&bytes, "\n")) {
    return false;
  }
  for (uint64_t i = 0; i < documents; ++i) {
    uint64_t id_size = 0;
    uint64_t text_size = 0;
    v1::Document& document = *out.add_documents();
    if (!TakeNumber(bytes, ' ', id_size) ||
        !TakeNumber(bytes, '\n', text_size) ||
        !TakeBytes(bytes, id_size, *document.mutable_id()) ||
        !TakeBytes(bytes, text_size, *document.mutable_text()) ||
        !absl::ConsumePrefix(&bytes, "\n")) {
      return false;
    }
    document.set_digest(Digest::Of(document.text()).bytes());
  }
  return bytes.empty();
}

// Whether its documents have together as many bytes as it says.
bool SizesAddUp(const v1::CorpusLanguage& language) {
  uint64_t left = language.bytes();
  for (const uint64_t bytes : language.document_bytes()) {
    if (bytes > left) {
      return false;
    }
    left -= bytes;
  }
  return left == 0;
}

absl::Status BadCorpus(absl::string_view message, absl::string_view field) {
  return MakeError(kBadValue, absl::StrCat("the corpus is damaged: ", message),
                   field);
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kLargestFile) {
    return MakeError(
        kUnreadableCorpus,
        error ? absl::StrCat("cannot read ", path, ": ", error.message())
              : absl::StrCat(path, " is larger than 1 GiB"),
        path);
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !IsValidUtf8(text.str())) {
    return MakeError(
        kUnreadableCorpus,
        absl::StrCat(path, file ? " is not UTF-8" : " cannot be read"), path);
  }
  return text.str();
}

absl::StatusOr<CorpusData> ReadCorpus(absl::string_view name,
                                      const std::string& path,
                                      std::span<const std::string> wanted) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return MakeError(kUnreadableCorpus, absl::StrCat("there is no ", path),
                     path);
  }
  if (std::filesystem::is_directory(path, error)) {
    QSWEEP_ASSIGN_OR_RETURN(std::vector<LanguageText> languages,
                            ReadUdhrFolder(path));
    return MakeCorpus(name, std::move(languages), wanted);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  if (absl::StripAsciiWhitespace(text).empty()) {
    return MakeError(kNoDocuments, absl::StrCat(path, " is empty"), path);
  }
  QSWEEP_ASSIGN_OR_RETURN(std::vector<LanguageText> languages,
                          LooksLikeJsonLines(text)
                              ? ParseJsonLines(text, path)
                              : ParseJsonTexts(text, path));
  return MakeCorpus(name, std::move(languages), wanted);
}

absl::StatusOr<CorpusData> MakeCorpus(absl::string_view name,
                                      std::vector<LanguageText> languages,
                                      std::span<const std::string> wanted) {
  if (languages.empty()) {
    return MakeError(kNoDocuments, "the corpus has no languages",
                     std::string(name));
  }
  std::sort(languages.begin(), languages.end(),
            [](const LanguageText& a, const LanguageText& b) {
              return a.corpus.language() < b.corpus.language();
            });
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<int> chosen,
                          Choose(name, languages, wanted));
  CorpusData data;
  data.corpus.set_name(std::string(name));
  for (const int index : chosen) {
    LanguageText& language = languages[static_cast<size_t>(index)];
    QSWEEP_RETURN_IF_ERROR(CheckLanguage(language.corpus));
    if (!data.languages.empty() &&
        data.languages.back().language() == language.corpus.language()) {
      return MakeError(kUnreadableCorpus,
                       absl::StrCat("language ", language.corpus.language(),
                                    " is there twice"),
                       language.corpus.language());
    }
    *data.corpus.add_languages() =
        Describe(language, data.artifacts.emplace_back());
    const auto empty = std::count_if(
        language.corpus.documents().begin(), language.corpus.documents().end(),
        [](const v1::Document& d) { return d.text().empty(); });
    if (empty > 0) {
      data.notes.push_back(
          absl::StrCat(language.corpus.language(), ": ", empty,
                       " empty documents, which will be skipped (",
                       kEmptyDocument.code, ")"));
    }
    data.languages.push_back(std::move(language.corpus));
  }
  data.corpus.set_digest(CorpusDigest(data.corpus).bytes());
  return data;
}

absl::StatusOr<std::vector<int>> ResolveLanguages(
    const v1::Corpus& corpus, std::span<const std::string> wanted) {
  std::set<int> chosen;
  for (int i = 0; wanted.empty() && i < corpus.languages_size(); ++i) {
    chosen.insert(i);
  }
  for (size_t w = 0; w < wanted.size(); ++w) {
    const std::string field = absl::StrCat("languages[", w, "]");
    std::vector<int> matches;
    std::vector<std::string> codes;
    std::vector<std::string> words;
    for (int i = 0; i < corpus.languages_size(); ++i) {
      const v1::CorpusLanguage& language = corpus.languages(i);
      words.push_back(language.language());
      words.insert(words.end(), language.aliases().begin(),
                   language.aliases().end());
      if (language.language() == wanted[w]) {  // a code beats any alias
        matches = {i};
        break;
      }
      if (std::find(language.aliases().begin(), language.aliases().end(),
                    wanted[w]) != language.aliases().end()) {
        matches.push_back(i);
        codes.push_back(language.language());
      }
    }
    if (matches.empty()) {
      return MakeError(kUnknownLanguage,
                       absl::StrCat("corpus ", corpus.name(),
                                    " has no language \"", wanted[w], "\""),
                       field, DidYouMeanHint(wanted[w], words));
    }
    if (matches.size() > 1) {
      return MakeError(
          kAmbiguousLanguage,
          absl::StrCat("language \"", wanted[w], "\" fits ",
                       absl::StrJoin(codes, ", ")),
          field,
          absl::StrCat("Choose one of ", absl::StrJoin(codes, ", "), "."));
    }
    chosen.insert(matches.front());
  }
  return std::vector<int>(chosen.begin(), chosen.end());
}

std::string SerializeLanguageCorpus(const v1::LanguageCorpus& language) {
  std::string bytes =
      absl::StrCat(kArtifactHeader, language.language().size(), " ",
                   language.documents_size(), "\n", language.language(), "\n");
  for (const v1::Document& document : language.documents()) {
    absl::StrAppend(&bytes, document.id().size(), " ", document.text().size(),
                    "\n", document.id(), document.text(), "\n");
  }
  return bytes;
}

absl::StatusOr<v1::LanguageCorpus> ParseLanguageCorpus(
    absl::string_view bytes) {
  v1::LanguageCorpus language;
  if (!TakeLanguageCorpus(bytes, language)) {
    return MakeError(kArtifactMismatch,
                     "the bytes are not a language of a corpus");
  }
  return language;
}

Digest CorpusDigest(const v1::Corpus& corpus) {
  std::vector<std::string> lines;
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    lines.push_back(
        absl::StrCat(language.language(), " ",
                     absl::BytesToHexString(language.artifact_digest()), "\n"));
  }
  std::sort(lines.begin(), lines.end());
  return Digest::Of(
      absl::StrCat("qsweep-corpus 1\n", absl::StrJoin(lines, "")));
}

absl::Status ValidateCorpus(const v1::Corpus& corpus) {
  if (corpus.name().empty() || corpus.name().size() > kLongestCode ||
      !IsDocumentId(corpus.name())) {
    return BadCorpus("it has no usable name", "name");
  }
  if (corpus.languages().empty()) {
    return BadCorpus("it has no languages", "languages");
  }
  for (int i = 0; i < corpus.languages_size(); ++i) {
    const v1::CorpusLanguage& language = corpus.languages(i);
    const std::string field = absl::StrCat("languages[", i, "]");
    if (!IsLanguageCode(language.language()) ||
        (i > 0 && corpus.languages(i - 1).language() >= language.language())) {
      return BadCorpus("codes are not sorted and unique", field);
    }
    const int documents = language.document_ids_size();
    if (documents == 0 || documents != language.document_digests_size() ||
        static_cast<uint32_t>(documents) != language.documents() ||
        documents != language.document_bytes_size() || !SizesAddUp(language) ||
        !Digest::FromBytes(language.artifact_digest()).ok()) {
      return BadCorpus("sizes disagree", field);
    }
    std::set<absl::string_view> ids;
    for (int d = 0; d < documents; ++d) {
      if (!IsDocumentId(language.document_ids(d)) ||
          !ids.insert(language.document_ids(d)).second ||
          !Digest::FromBytes(language.document_digests(d)).ok()) {
        return BadCorpus("a document has a bad id or digest", field);
      }
    }
  }
  if (corpus.digest() != CorpusDigest(corpus).bytes()) {
    return BadCorpus("its digest is not that of its languages", "digest");
  }
  return absl::OkStatus();
}

std::vector<v1::Corpus> SplitCorpus(const v1::Corpus& corpus, size_t bytes) {
  std::vector<v1::Corpus> parts(1);
  parts.back().set_name(corpus.name());
  parts.back().set_digest(corpus.digest());
  parts.back().set_license(corpus.license());
  size_t size = 0;  // of the last one, about
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    v1::CorpusLanguage* out = parts.back().add_languages();
    *out = language;
    out->clear_document_ids();
    out->clear_document_digests();
    out->clear_document_bytes();
    size += out->ByteSizeLong();
    const int documents = std::max({language.document_ids_size(),
                                    language.document_digests_size(),
                                    language.document_bytes_size()});
    for (int i = 0; i < documents; ++i) {
      if (size >= bytes) {
        out = parts.emplace_back().add_languages();
        out->set_language(language.language());
        size = 0;
      }
      if (i < language.document_ids_size()) {
        out->add_document_ids(language.document_ids(i));
        size += language.document_ids(i).size() + 2;
      }
      if (i < language.document_digests_size()) {
        out->add_document_digests(language.document_digests(i));
        size += language.document_digests(i).size() + 2;
      }
      if (i < language.document_bytes_size()) {
        out->add_document_bytes(language.document_bytes(i));
        size += 3;
      }
    }
  }
  return parts;
}

void AppendPart(v1::Corpus part, v1::Corpus& whole) {
  v1::CorpusLanguage* last =
      whole.languages().empty()
          ? nullptr
          : whole.mutable_languages(whole.languages_size() - 1);
  if (last == nullptr) {
    whole.MergeFrom(part);
    return;
  }
  for (v1::CorpusLanguage& language : *part.mutable_languages()) {
    if (language.language() == last->language()) {
      last->mutable_document_ids()->MergeFrom(language.document_ids());
      last->mutable_document_digests()->MergeFrom(language.document_digests());
      last->mutable_document_bytes()->MergeFrom(language.document_bytes());
    } else {
      last = whole.add_languages();
      *last = std::move(language);
    }
  }
}

}  // namespace qsweep
