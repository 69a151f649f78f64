#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus_readers.h"

namespace qsweep {
namespace {

using Json = nlohmann::json;

absl::Status Broken(const std::string& place, absl::string_view what) {
  return MakeError(kUnreadableCorpus, absl::StrCat(place, ": ", what), place);
}

void AddDocument(LanguageText& language, std::string id, std::string text) {
  v1::Document& document = *language.corpus.add_documents();
  document.set_id(std::move(id));
  document.set_text(std::move(text));
}

// The id of a JSONL line: a text, or a whole number as text.
std::optional<std::string> ReadId(const Json& object) {
  const auto id = object.find("id");
  if (id == object.end()) {
    return std::nullopt;
  }
  if (id->is_string()) {
    return id->get<std::string>();
  }
  if (id->is_number_integer()) {
    return id->dump();
  }
  return std::nullopt;
}

// Parses an object whose own keys may not repeat: the library would keep the
// last one silently.
absl::StatusOr<Json> ParseObject(absl::string_view text,
                                 const std::string& place) {
  std::set<std::string> keys;
  std::string repeated;
  const Json::parser_callback_t callback =
      [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (event == Json::parse_event_t::key && depth == 1 &&
            !keys.insert(parsed.get<std::string>()).second) {
          repeated = parsed.get<std::string>();
        }
        return true;
      };
  Json object;
  try {
    object = Json::parse(text.begin(), text.end(), callback);
  } catch (const Json::exception& error) {
    return Broken(place, error.what());
  }
  if (!object.is_object()) {
    return Broken(place, "not a JSON object");
  }
  if (!repeated.empty()) {
    return Broken(place, absl::StrCat("\"", repeated, "\" is given twice"));
  }
  return object;
}

}  // namespace

bool LooksLikeJsonLines(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const absl::string_view line = text.substr(0, text.find('\n'));
  const Json first = Json::parse(line.begin(), line.end(), nullptr,
                                 /*allow_exceptions=*/false);
  return first.is_object() && first.contains("language") &&
         first.contains("text");
}

absl::StatusOr<std::vector<LanguageText>> ParseJsonLines(
    absl::string_view text, const std::string& path) {
  std::vector<LanguageText> languages;
  std::map<std::string, size_t> position;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) {
      continue;
    }
    const std::string place = absl::StrCat(path, ":", number);
    QSWEEP_ASSIGN_OR_RETURN(const Json object, ParseObject(line, place));
    const Json language = object.value("language", Json());
    const Json document = object.value("text", Json());
    std::optional<std::string> id = ReadId(object);
    if (!language.is_string() || !document.is_string() || !id) {
      return Broken(place, "a line needs \"language\", \"id\" and \"text\"");
    }
    const auto [found, added] =
        position.emplace(language.get<std::string>(), languages.size());
    if (added) {
      languages.emplace_back().corpus.set_language(found->first);
    }
    AddDocument(languages[found->second], *std::move(id),
                document.get<std::string>());
  }
  return languages;
}

absl::StatusOr<std::vector<LanguageText>> ParseJsonTexts(
    absl::string_view text, const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const Json object, ParseObject(text, path));
  std::vector<LanguageText> languages;
  for (const auto& [language, texts] : object.items()) {
    LanguageText& added = languages.emplace_back();
    added.corpus.set_language(language);
    if (texts.is_string()) {
      AddDocument(added, "0", texts.get<std::string>());
      continue;
    }
    if (!texts.is_array()) {
      return Broken(path, absl::StrCat("\"", language,
                                       "\" is neither a text nor a list"));
    }
    for (size_t i = 0; i < texts.size(); ++i) {
      if (!texts[i].is_string()) {
        return Broken(
            path, absl::StrCat("\"", language, "\"[", i, "] is not a text"));
      }
      AddDocument(added, absl::StrCat(i), texts[i].get<std::string>());
    }
  }
  return languages;
}

}  // namespace qsweep
