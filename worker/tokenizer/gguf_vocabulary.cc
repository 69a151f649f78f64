#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/tokenizer/json_text.h"
#include "worker/tokenizer/text_tokenizer.h"
#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

// tokenizer.ggml.token_type
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;

constexpr char kLlama3Words[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// What tokenizer.ggml.pre stands for.
struct Pre {
  const char* name;
  bool ignore_merges;
  std::vector<PreTokenizerStep> (*steps)();
  std::string (*json)();  // pre_tokenizer of a tokenizer.json
};

std::vector<PreTokenizerStep> Gpt2Steps() {
  return {MakeByteLevelStep(/*add_prefix_space=*/false, /*use_regex=*/true)};
}

std::vector<PreTokenizerStep> SmolLmSteps() {
  return {MakeDigitsStep(/*individual_digits=*/true),
          MakeByteLevelStep(/*add_prefix_space=*/false, /*use_regex=*/true)};
}

std::vector<PreTokenizerStep> Llama3Steps() {
  absl::StatusOr<Pattern> words = Pattern::MakeRegex(kLlama3Words);
  QSWEEP_CHECK(words.ok());  // a constant
  return {SplitStep{.pattern = *std::move(words)},
          MakeByteLevelStep(/*add_prefix_space=*/false, /*use_regex=*/false)};
}

std::string ByteLevelJson(bool use_regex) {
  return absl::StrCat(R"({"type": "ByteLevel", "add_prefix_space": false, )",
                      R"("trim_offsets": true, "use_regex": )",
                      use_regex ? "true" : "false", "}");
}

std::string SequenceJson(absl::string_view first, absl::string_view second) {
  return absl::StrCat(R"({"type": "Sequence", "pretokenizers": [)", first, ", ",
                      second, "]}");
}

std::string Gpt2Json() { return ByteLevelJson(/*use_regex=*/true); }

std::string SmolLmJson() {
  return SequenceJson(R"({"type": "Digits", "individual_digits": true})",
                      ByteLevelJson(/*use_regex=*/true));
}

std::string Llama3Json() {
  return SequenceJson(
      absl::StrCat(R"({"type": "Split", "pattern": {"Regex": )",
                   JsonString(kLlama3Words),
                   R"(}, "behavior": "Isolated", "invert": false})"),
      ByteLevelJson(/*use_regex=*/false));
}

constexpr Pre kPres[] = {
    {"gpt-2", false, Gpt2Steps, Gpt2Json},
    {"smollm", false, SmolLmSteps, SmolLmJson},
    {"llama-bpe", true, Llama3Steps, Llama3Json},
};

absl::Status Corrupt(absl::string_view what) {
  return MakeError(kCorruptModel, what, "tokenizer.ggml",
                   "Download or convert the file again.");
}

absl::StatusOr<const Pre*> FindPre(const GgufVocabulary& vocabulary) {
  if (vocabulary.model != "gpt2") {
    return MakeError(kUnsupportedTokenizer,
                     absl::StrCat("tokenizer model '", vocabulary.model,
                                  "' is not supported"),
                     "tokenizer.ggml.model",
                     "Supported: gpt2 (byte-level BPE).");
  }
  for (const Pre& pre : kPres) {
    if (vocabulary.pre == pre.name) {
      return &pre;
    }
  }
  return MakeError(
      kUnsupportedTokenizer,
      absl::StrCat("pre-tokenizer '", vocabulary.pre, "' is not supported"),
      "tokenizer.ggml.pre",
      absl::StrCat("Supported: ",
                   absl::StrJoin(kPres, ", ",
                                 [](std::string* out, const Pre& p) {
                                   out->append(p.name);
                                 }),
                   "."));
}

absl::StatusOr<Bpe> MakeModel(const GgufVocabulary& vocabulary,
                              bool ignore_merges) {
  Bpe::Vocabulary ids;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string& token = vocabulary.tokens[i];
    if (ReplaceBrokenUtf8(token) != token) {
      return Corrupt(absl::StrCat("token ", i, " is not UTF-8"));
    }
    if (!ids.emplace(token, static_cast<int32_t>(i)).second) {
      return Corrupt(absl::StrCat("token ", i, " ('", token,
                                  "') is in the vocabulary twice"));
    }
  }
  Bpe::Merges merges;
  merges.reserve(vocabulary.merges.size());
  for (const std::string& merge : vocabulary.merges) {
    // A token never holds a space; the first character may be one in theory.
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size()) {
      return Corrupt(absl::StrCat("merge '", merge, "' is not two tokens"));
    }
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  absl::StatusOr<Bpe> model =
      Bpe::Make(std::move(ids), merges, {.ignore_merges = ignore_merges});
  if (!model.ok()) {
    return Corrupt(model.status().message());
  }
  return model;
}

absl::Status CheckIds(const GgufVocabulary& vocabulary) {
  if (vocabulary.tokens.empty()) {
    return Corrupt("the vocabulary has no tokens");
  }
  if (!vocabulary.token_types.empty() &&
      vocabulary.token_types.size() != vocabulary.tokens.size()) {
    return Corrupt(absl::StrCat(vocabulary.token_types.size(),
                                " token types for ", vocabulary.tokens.size(),
                                " tokens"));
  }
  for (const std::optional<int32_t> id : {vocabulary.bos, vocabulary.eos}) {
    if (id &&
        (*id < 0 || static_cast<size_t>(*id) >= vocabulary.tokens.size())) {
      return Corrupt(
          absl::StrCat("special token ", *id, " is not in the vocabulary"));
    }
  }
  if (vocabulary.add_bos && !vocabulary.bos) {
    return Corrupt("add_bos_token is set, but there is no bos_token_id");
  }
  return absl::OkStatus();
}

std::vector<AddedToken> AddedTokensOf(const GgufVocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  for (size_t i = 0; i < vocabulary.token_types.size(); ++i) {
    const int32_t type = vocabulary.token_types[i];
    if (type == kControl || type == kUserDefined) {
      tokens.push_back({.id = static_cast<int32_t>(i),
                        .content = vocabulary.tokens[i],
                        .special = type == kControl});
    }
  }
  return tokens;
}

// The template that puts BOS before a text, and before each of two.
std::string TemplateJson(const std::string& bos, int32_t id) {
  const auto special = [&](int type_id) {
    return absl::StrCat(R"({"SpecialToken": {"id": )", JsonString(bos),
                        R"(, "type_id": )", type_id, "}}");
  };
  const auto text = [](const char* name, int type_id) {
    return absl::StrCat(R"({"Sequence": {"id": ")", name, R"(", "type_id": )",
                        type_id, "}}");
  };
  return absl::StrCat(
      R"({"type": "TemplateProcessing", "single": [)", special(0), ", ",
      text("A", 0), R"(], "pair": [)", special(0), ", ", text("A", 0), ", ",
      special(1), ", ", text("B", 1), R"(], "special_tokens": {)",
      JsonString(bos), R"(: {"id": )", JsonString(bos), R"(, "ids": [)", id,
      R"(], "tokens": [)", JsonString(bos), "]}}}");
}

void AddField(absl::string_view value, DigestBuilder& builder) {
  builder.Update(absl::StrCat(value.size(), ":"));
  builder.Update(value);
}

std::string IdText(std::optional<int32_t> id) {
  return id ? absl::StrCat(*id) : "none";
}

Digest DigestOf(const GgufVocabulary& vocabulary) {
  DigestBuilder builder;
  AddField("qsweep gguf tokenizer 1", builder);
  AddField(vocabulary.model, builder);
  AddField(vocabulary.pre, builder);
  AddField(absl::StrCat("bos ", IdText(vocabulary.bos), " eos ",
                        IdText(vocabulary.eos), " add_bos ",
                        vocabulary.add_bos ? 1 : 0),
           builder);
  for (const std::vector<std::string>* list :
       {&vocabulary.tokens, &vocabulary.merges}) {
    AddField(absl::StrCat(list->size()), builder);
    for (const std::string& text : *list) {
      AddField(text, builder);
    }
  }
  AddField(absl::StrJoin(vocabulary.token_types, ","), builder);
  return builder.Finish();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(
    GgufVocabulary vocabulary) {
  QSWEEP_ASSIGN_OR_RETURN(const Pre* pre, FindPre(vocabulary));
  QSWEEP_RETURN_IF_ERROR(CheckIds(vocabulary));
  QSWEEP_ASSIGN_OR_RETURN(Bpe model, MakeModel(vocabulary, pre->ignore_merges));
  TokenizerParts parts{.pre_tokenizers = pre->steps(),
                       .model = std::move(model)};
  parts.added_tokens = AddedTokensOf(vocabulary);
  parts.bos = vocabulary.bos;
  parts.eos = vocabulary.eos;
  if (vocabulary.add_bos) {
    parts.prefix = {*vocabulary.bos};
  }
  parts.digest = DigestOf(vocabulary);
  return MakeTextTokenizer(std::move(parts));
}

std::string FormatTokenizerJson(const GgufVocabulary& vocabulary) {
  const absl::StatusOr<const Pre*> pre = FindPre(vocabulary);
  QSWEEP_CHECK(pre.ok());
  std::vector<std::string> added;
  for (const AddedToken& token : AddedTokensOf(vocabulary)) {
    added.push_back(absl::StrCat(
        R"({"id": )", token.id, R"(, "content": )", JsonString(token.content),
        R"(, "single_word": false, "lstrip": false, "rstrip": false, )",
        R"("normalized": false, "special": )", token.special ? "true" : "false",
        "}"));
  }
  std::vector<std::string> ids;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    ids.push_back(absl::StrCat(JsonString(vocabulary.tokens[i]), ": ", i));
  }
  std::vector<std::string> merges;
  for (const std::string& merge : vocabulary.merges) {
    merges.push_back(JsonString(merge));
  }
  const std::string after =
      vocabulary.add_bos
          ? TemplateJson(
                vocabulary.tokens[static_cast<size_t>(*vocabulary.bos)],
                *vocabulary.bos)
          : "null";
  return absl::StrCat(
      R"({"version": "1.0", "truncation": null, "padding": null, )",
      R"("added_tokens": [)", absl::StrJoin(added, ", "),
      R"(], "normalizer": null, "pre_tokenizer": )", (*pre)->json(),
      R"(, "post_processor": )", after,
      R"(, "decoder": {"type": "ByteLevel", "add_prefix_space": true, )",
      R"("trim_offsets": true, "use_regex": true}, "model": {"type": "BPE", )",
      R"("dropout": null, "unk_token": null, )",
      R"("continuing_subword_prefix": null, "end_of_word_suffix": null, )",
      R"("fuse_unk": false, "byte_fallback": false, "ignore_merges": )",
      (*pre)->ignore_merges ? "true" : "false", R"(, "vocab": {)",
      absl::StrJoin(ids, ", "), R"(}, "merges": [)",
      absl::StrJoin(merges, ", "), "]}}\n");
}

}  // namespace qsweep
