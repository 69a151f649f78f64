#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/tokenizer/json_fields.h"
#include "worker/tokenizer/text_tokenizer.h"
#include "worker/tokenizer/tokenizer_json_steps.h"

namespace qsweep {
namespace {

namespace dom = simdjson::dom;
namespace fs = std::filesystem;

// Far above any vocabulary; ids beyond it would only take memory.
constexpr int32_t kMaxId = 1 << 24;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)),
                   std::istreambuf_iterator<char>());
  if (!in.good() && !in.eof()) {
    return MakeError(kModelNotFound, "cannot open the file", path,
                     "A model directory needs its tokenizer.json.");
  }
  return text;
}

absl::Status CheckId(const JsonFields& place, int64_t id) {
  if (id < 0 || id > kMaxId) {
    return place.Corrupt(absl::StrCat("token id ", id, " is out of range"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Bpe::Vocabulary> ReadVocabulary(const JsonFields& model) {
  QSWEEP_ASSIGN_OR_RETURN(const JsonFields json, model.Object("vocab"));
  Bpe::Vocabulary vocabulary;
  for (const dom::key_value_pair field : json.object()) {
    int64_t id = -1;
    if (field.value.get(id) != simdjson::SUCCESS) {
      return json.Corrupt(
          absl::StrCat("'", std::string(field.key), "' has no integer id"));
    }
    QSWEEP_RETURN_IF_ERROR(CheckId(json, id));
    if (!vocabulary.emplace(std::string(field.key), static_cast<int32_t>(id))
             .second) {
      return json.Corrupt(
          absl::StrCat("'", std::string(field.key), "' is given twice"));
    }
  }
  return vocabulary;
}

// A merge is "a b" in older files, ["a", "b"] in newer ones.
absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(
    const JsonFields& model, dom::element json) {
  if (const std::optional<std::string> text = JsonText(json)) {
    const size_t space = text->find(' ');
    if (space != std::string::npos &&
        text->find(' ', space + 1) == std::string::npos) {
      return std::pair(text->substr(0, space), text->substr(space + 1));
    }
    return model.Corrupt("a merge is not two tokens");
  }
  dom::array pair;
  if (json.get(pair) == simdjson::SUCCESS && pair.size() == 2) {
    std::optional<std::string> left = JsonText(*pair.begin());
    std::optional<std::string> right = JsonText(*++pair.begin());
    if (left && right) {
      return std::pair(*std::move(left), *std::move(right));
    }
  }
  return model.Corrupt("a merge is not two tokens");
}

absl::StatusOr<Bpe::Merges> ReadMerges(const JsonFields& model) {
  const std::optional<dom::element> element = model.Find("merges");
  dom::array list;
  if (!element || element->get(list) != simdjson::SUCCESS) {
    return model.Corrupt("merges is missing or not a list");
  }
  Bpe::Merges merges;
  for (const dom::element json : list) {
    QSWEEP_ASSIGN_OR_RETURN(auto merge, ReadMerge(model, json));
    merges.push_back(std::move(merge));
  }
  return merges;
}

absl::StatusOr<Bpe> ReadModel(const JsonFields& root) {
  QSWEEP_ASSIGN_OR_RETURN(const JsonFields model, root.Object("model"));
  QSWEEP_ASSIGN_OR_RETURN(const std::string type, model.Text("type", "BPE"));
  if (type != "BPE") {
    return model.Unsupported(absl::StrCat("model '", type, "'"));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string affix, model.Text(key, ""));
    if (!affix.empty()) {
      return model.Unsupported(key);
    }
  }
  if (const std::optional<dom::element> dropout = model.Find("dropout")) {
    double probability = 1;
    if (dropout->get(probability) != simdjson::SUCCESS || probability != 0) {
      return model.Unsupported("dropout");
    }
  }
  BpeOptions options;
  if (model.Has("unk_token")) {
    QSWEEP_ASSIGN_OR_RETURN(options.unknown_token, model.Text("unk_token"));
  }
  QSWEEP_ASSIGN_OR_RETURN(options.fuse_unknown, model.Bool("fuse_unk", false));
  QSWEEP_ASSIGN_OR_RETURN(options.byte_fallback,
                          model.Bool("byte_fallback", false));
  QSWEEP_ASSIGN_OR_RETURN(options.ignore_merges,
                          model.Bool("ignore_merges", false));
  QSWEEP_ASSIGN_OR_RETURN(Bpe::Vocabulary vocabulary, ReadVocabulary(model));
  QSWEEP_ASSIGN_OR_RETURN(const Bpe::Merges merges, ReadMerges(model));
  absl::StatusOr<Bpe> bpe =
      Bpe::Make(std::move(vocabulary), merges, std::move(options));
  if (!bpe.ok()) {
    return model.Corrupt(bpe.status().message());
  }
  return bpe;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(
    const JsonFields& root) {
  std::vector<AddedToken> tokens;
  if (!root.Has("added_tokens")) {
    return tokens;
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<JsonFields> list,
                          root.Objects("added_tokens"));
  for (const JsonFields& json : list) {
    AddedToken token;
    QSWEEP_ASSIGN_OR_RETURN(token.id, json.Id("id"));
    QSWEEP_RETURN_IF_ERROR(CheckId(json, token.id));
    QSWEEP_ASSIGN_OR_RETURN(token.content, json.Text("content"));
    QSWEEP_ASSIGN_OR_RETURN(token.special, json.Bool("special", false));
    QSWEEP_ASSIGN_OR_RETURN(token.single_word, json.Bool("single_word", false));
    QSWEEP_ASSIGN_OR_RETURN(token.left_strip, json.Bool("lstrip", false));
    QSWEEP_ASSIGN_OR_RETURN(token.right_strip, json.Bool("rstrip", false));
    QSWEEP_ASSIGN_OR_RETURN(token.normalized,
                            json.Bool("normalized", !token.special));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// A JSON object in a file beside tokenizer.json; nothing when there is none.
std::optional<dom::object> ReadBeside(const std::string& path, const char* name,
                                      dom::parser& parser) {
  const fs::path beside = fs::path(path).parent_path() / name;
  dom::object object;
  if (parser.load(beside.string()).get(object) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  return object;
}

std::optional<int32_t> FindToken(const TokenizerParts& parts,
                                 const std::string& content) {
  for (const AddedToken& token : parts.added_tokens) {
    if (token.content == content) {
      return token.id;
    }
  }
  const auto it = parts.model.vocabulary().find(content);
  return it != parts.model.vocabulary().end()
             ? std::optional<int32_t>(it->second)
             : std::nullopt;
}

// tokenizer.json does not say which tokens begin and end a text:
// tokenizer_config.json does by content, config.json by id (or a list of ids).
std::optional<int32_t> FindSpecial(const std::string& path,
                                   const TokenizerParts& parts,
                                   const std::string& which) {
  dom::parser parser;
  if (const auto config = ReadBeside(path, "tokenizer_config.json", parser)) {
    dom::element element;
    if ((*config)[which + "_token"].get(element) == simdjson::SUCCESS) {
      std::optional<std::string> content = JsonText(element);
      dom::element inner;  // newer files: an added token as an object
      if (!content && element["content"].get(inner) == simdjson::SUCCESS) {
        content = JsonText(inner);
      }
      if (content) {
        return FindToken(parts, *content);
      }
    }
  }
  if (const auto config = ReadBeside(path, "config.json", parser)) {
    dom::element element;
    int64_t id = -1;
    if ((*config)[which + "_token_id"].get(element) == simdjson::SUCCESS &&
        (element.get(id) == simdjson::SUCCESS ||
         element.at(0).get(id) == simdjson::SUCCESS) &&
        id >= 0 && id <= kMaxId) {
      return static_cast<int32_t>(id);
    }
  }
  return std::nullopt;
}

bool HasByteLevel(const TokenizerParts& parts) {
  return std::any_of(parts.pre_tokenizers.begin(), parts.pre_tokenizers.end(),
                     [](const PreTokenizerStep& step) {
                       return std::holds_alternative<ByteLevelStep>(step);
                     });
}

absl::Status CheckTemplateIds(const JsonFields& root,
                              const TokenizerParts& parts) {
  std::set<int32_t> known;
  for (const auto& [token, id] : parts.model.vocabulary()) {
    known.insert(id);
  }
  for (const AddedToken& token : parts.added_tokens) {
    known.insert(token.id);
  }
  for (const std::vector<int32_t>* ids : {&parts.prefix, &parts.suffix}) {
    for (const int32_t id : *ids) {
      if (!known.contains(id)) {
        return root.Corrupt(absl::StrCat("post_processor: token ", id,
                                         " is not in the vocabulary"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(
    const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    return MakeError(kModelNotFound, "there is no such file", path,
                     "A model directory needs its tokenizer.json.");
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  dom::parser parser;
  dom::object object;
  if (parser.parse(text).get(object) != simdjson::SUCCESS) {
    return MakeError(kCorruptModel, "the file is not a JSON object", path,
                     "Download the model again.");
  }
  const JsonFields root(object, "", &path);
  QSWEEP_ASSIGN_OR_RETURN(Bpe model, ReadModel(root));
  TokenizerParts parts{.model = std::move(model)};
  QSWEEP_ASSIGN_OR_RETURN(parts.added_tokens, ReadAddedTokens(root));
  if (root.Has("normalizer")) {
    QSWEEP_ASSIGN_OR_RETURN(const JsonFields json, root.Object("normalizer"));
    QSWEEP_RETURN_IF_ERROR(AppendNormalizers(json, parts.normalizers));
  }
  if (root.Has("pre_tokenizer")) {
    QSWEEP_ASSIGN_OR_RETURN(const JsonFields json,
                            root.Object("pre_tokenizer"));
    QSWEEP_RETURN_IF_ERROR(AppendPreTokenizers(json, parts.pre_tokenizers));
  }
  if (root.Has("post_processor")) {
    QSWEEP_ASSIGN_OR_RETURN(const JsonFields json,
                            root.Object("post_processor"));
    QSWEEP_RETURN_IF_ERROR(ApplyPostProcessor(json, parts));
  }
  QSWEEP_RETURN_IF_ERROR(CheckTemplateIds(root, parts));
  parts.spelling = HasByteLevel(parts) ? TokenSpelling::kByteAlphabet
                                       : TokenSpelling::kMetaspace;
  parts.bos = FindSpecial(path, parts, "bos");
  parts.eos = FindSpecial(path, parts, "eos");
  parts.digest = Digest::Of(absl::StrCat(
      "qsweep tokenizer.json 1\n", Digest::Of(text).hex(), "\nbos ",
      parts.bos.value_or(-1), " eos ", parts.eos.value_or(-1)));
  return MakeTextTokenizer(std::move(parts));
}

}  // namespace qsweep
