#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus_readers.h"
#include "common/job/utf8.h"

namespace qsweep {
namespace {

absl::Status BrokenFile(const std::string& path, absl::string_view what) {
  return MakeError(kUnreadableCorpus,
                   absl::StrCat(path, " is not a UDHR translation: ", what),
                   path);
}

// "&amp;" and its like, "&#38;", "&#x26;"; what is none stays as written.
std::string DecodeEntities(absl::string_view text) {
  static const std::map<std::string, uint32_t>& named =
      *new std::map<std::string, uint32_t>{{"amp", '&'},   {"lt", '<'},
                                           {"gt", '>'},    {"quot", '"'},
                                           {"apos", '\''}, {"nbsp", 0xA0}};
  std::string decoded;
  for (size_t i = 0; i < text.size();) {
    const size_t end = text[i] == '&' ? text.substr(0, i + 12).find(';', i)
                                      : absl::string_view::npos;
    if (end == absl::string_view::npos) {
      decoded += text[i++];
      continue;
    }
    const absl::string_view name = text.substr(i + 1, end - i - 1);
    const auto found = named.find(std::string(name));
    std::optional<uint32_t> code_point;
    uint32_t number = 0;
    if (found != named.end()) {
      code_point = found->second;
    } else if (absl::StartsWith(name, "#x") || absl::StartsWith(name, "#X")) {
      if (absl::SimpleHexAtoi(name.substr(2), &number)) {
        code_point = number;
      }
    } else if (absl::StartsWith(name, "#") &&
               absl::SimpleAtoi(name.substr(1), &number)) {
      code_point = number;
    }
    if (!code_point) {
      decoded += text[i++];
      continue;
    }
    AppendUtf8(*code_point, decoded);
    i = end + 1;
  }
  return decoded;
}

// The value of an attribute of a tag's text, or "".
std::string Attribute(absl::string_view tag, absl::string_view name) {
  const std::string start = absl::StrCat(" ", name, "=\"");
  const size_t at = tag.find(start);
  if (at == absl::string_view::npos) {
    return "";
  }
  const size_t begin = at + start.size();
  const size_t end = tag.find('"', begin);
  return end == absl::string_view::npos
             ? ""
             : DecodeEntities(tag.substr(begin, end - begin));
}

// Walks the tags of one translation. The files are regular: no inline markup,
// no comments, so a paragraph is all the text up to the next <p> or <li>.
class UdhrParser {
 public:
  UdhrParser(absl::string_view html, const std::string& path)
      : html_(html), path_(path) {}

  absl::StatusOr<LanguageText> Parse() {
    size_t position = 0;
    while (true) {
      const size_t open = html_.find('<', position);
      if (open == absl::string_view::npos) {
        break;
      }
      OnText(html_.substr(position, open - position));
      const size_t close = html_.find('>', open);
      if (close == absl::string_view::npos) {
        return BrokenFile(path_, "a tag is cut off");
      }
      QSWEEP_RETURN_IF_ERROR(OnTag(html_.substr(open + 1, close - open - 1)));
      position = close + 1;
    }
    if (!ended_ || !unit_.empty()) {
      return BrokenFile(path_, "the file is cut off");
    }
    if (language_.corpus.language().empty()) {
      return BrokenFile(path_, "it has no <html data-code=...>");
    }
    if (units_.empty()) {
      return BrokenFile(path_, "it has no article");
    }
    AddDocuments();
    return std::move(language_);
  }

 private:
  void OnText(absl::string_view text) {
    if (in_title_) {
      absl::StrAppend(&language_.name, DecodeEntities(text));
    } else if (!unit_.empty() && depth_ > 0 && !in_heading_) {
      absl::StrAppend(&paragraph_, text);
    }
  }

  absl::Status OnTag(absl::string_view tag) {
    const bool closing = absl::StartsWith(tag, "/");
    if (closing) {
      tag.remove_prefix(1);
    }
    const absl::string_view name = tag.substr(0, tag.find_first_of(" \t\r\n"));
    if (name == "p" || name == "li") {
      EndParagraph();
      depth_ = std::max(0, depth_ + (closing ? -1 : 1));
    } else if (name == "h1" || name == "h2") {
      in_heading_ = !closing;
    } else if (name == "title") {
      in_title_ = !closing;
    } else if (name == "html") {
      OnHtml(tag, closing);
    } else if (name == "header" || name == "article") {
      return OnUnit(name, tag, closing);
    }
    return absl::OkStatus();
  }

  void OnHtml(absl::string_view tag, bool closing) {
    if (closing) {
      ended_ = true;
      return;
    }
    language_.corpus.set_language(Attribute(tag, "data-code"));
    language_.bcp47 = Attribute(tag, "lang");
    for (const std::string& alias :
         {Attribute(tag, "data-iso6393"), language_.bcp47}) {
      if (!alias.empty() && alias != language_.corpus.language()) {
        language_.aliases.push_back(alias);
      }
    }
  }

  absl::Status OnUnit(absl::string_view name, absl::string_view tag,
                      bool closing) {
    EndParagraph();
    if (closing) {
      units_[unit_] = absl::StrJoin(paragraphs_, "\n");
      unit_.clear();
      paragraphs_.clear();
      depth_ = 0;
      return absl::OkStatus();
    }
    if (!unit_.empty()) {
      return BrokenFile(path_, absl::StrCat("<", name, "> inside ", unit_));
    }
    unit_ = name == "header" ? "preamble" : Attribute(tag, "data-number");
    int number = 0;
    if (name == "article" && (!absl::SimpleAtoi(unit_, &number) || number < 1 ||
                              number > 30 || unit_ != absl::StrCat(number))) {
      return BrokenFile(
          path_, absl::StrCat("article \"", unit_, "\" is not one of 1 to 30"));
    }
    if (units_.count(unit_) > 0) {
      return MakeError(kDuplicateDocument,
                       absl::StrCat(path_, " has ", unit_, " twice"), path_);
    }
    return absl::OkStatus();
  }

  void EndParagraph() {
    const std::string decoded = DecodeEntities(paragraph_);
    const absl::string_view text = StripUnicodeWhitespace(decoded);
    if (!text.empty()) {
      paragraphs_.emplace_back(text);
    }
    paragraph_.clear();
  }

  // The preamble, then the articles by number.
  void AddDocuments() {
    std::vector<std::string> ids = {"preamble"};
    for (int number = 1; number <= 30; ++number) {
      ids.push_back(absl::StrCat(number));
    }
    for (const std::string& id : ids) {
      if (const auto unit = units_.find(id); unit != units_.end()) {
        v1::Document& document = *language_.corpus.add_documents();
        document.set_id(id);
        document.set_text(unit->second);
      }
    }
  }

  absl::string_view html_;
  const std::string& path_;
  LanguageText language_;
  std::map<std::string, std::string> units_;  // id -> text
  std::string unit_;  // id of the header or article we are in
  std::vector<std::string> paragraphs_;  // of unit_
  std::string paragraph_;                // not yet decoded
  int depth_ = 0;                        // of open <p> and <li>
  bool in_heading_ = false;
  bool in_title_ = false;
  bool ended_ = false;
};

}  // namespace

absl::StatusOr<LanguageText> ParseUdhrHtml(absl::string_view html,
                                           const std::string& path) {
  return UdhrParser(html, path).Parse();
}

absl::StatusOr<std::vector<LanguageText>> ReadUdhrFolder(
    const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  const std::filesystem::path inner =
      std::filesystem::path(folder) / "declaration";
  const std::filesystem::path where =
      std::filesystem::is_directory(inner, error)
          ? inner
          : std::filesystem::path(folder);
  std::filesystem::directory_iterator it(where, error);
  for (; !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    if (it->path().extension() == ".html") {
      paths.push_back(it->path().string());
    }
  }
  if (error || paths.empty()) {
    return MakeError(kUnreadableCorpus,
                     absl::StrCat(folder, " holds no *.html of the UDHR",
                                  error ? ": " + error.message() : ""),
                     folder,
                     "Give the folder that holds declaration/, or a JSON or "
                     "JSONL file.");
  }
  std::sort(paths.begin(), paths.end());
  std::vector<LanguageText> languages;
  for (const std::string& path : paths) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string html, ReadTextFile(path));
    QSWEEP_ASSIGN_OR_RETURN(LanguageText language, ParseUdhrHtml(html, path));
    languages.push_back(std::move(language));
  }
  return languages;
}

}  // namespace qsweep
