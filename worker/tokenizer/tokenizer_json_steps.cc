#include "worker/tokenizer/tokenizer_json_steps.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"

namespace qsweep {
namespace {

namespace dom = simdjson::dom;

absl::StatusOr<Pattern> ReadPattern(const JsonFields& json) {
  QSWEEP_ASSIGN_OR_RETURN(const JsonFields pattern, json.Object("pattern"));
  if (pattern.Has("String")) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string text, pattern.Text("String"));
    return Pattern::MakeLiteral(text);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string regex, pattern.Text("Regex"));
  absl::StatusOr<Pattern> compiled = Pattern::MakeRegex(regex);
  if (!compiled.ok()) {
    return json.Unsupported(compiled.status().message());
  }
  return compiled;
}

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonFields& json) {
  constexpr std::pair<const char*, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, json.Text("behavior"));
  for (const auto& [name, behavior] : kNames) {
    if (text == name) {
      return behavior;
    }
  }
  return json.Unsupported(absl::StrCat("behavior '", text, "'"));
}

absl::StatusOr<SplitStep> ReadSplit(const JsonFields& json) {
  SplitStep step;
  QSWEEP_ASSIGN_OR_RETURN(step.pattern, ReadPattern(json));
  QSWEEP_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(json));
  QSWEEP_ASSIGN_OR_RETURN(step.invert, json.Bool("invert", false));
  return step;
}

absl::StatusOr<MetaspaceStep> ReadMetaspace(const JsonFields& json) {
  MetaspaceStep step;
  QSWEEP_ASSIGN_OR_RETURN(step.replacement,
                          json.Text("replacement", step.replacement));
  QSWEEP_ASSIGN_OR_RETURN(step.split, json.Bool("split", true));
  // Older files say add_prefix_space, newer ones prepend_scheme.
  QSWEEP_ASSIGN_OR_RETURN(const bool add_prefix_space,
                          json.Bool("add_prefix_space", true));
  QSWEEP_ASSIGN_OR_RETURN(
      const std::string scheme,
      json.Text("prepend_scheme", add_prefix_space ? "always" : "never"));
  if (scheme == "always") {
    step.prepend = MetaspaceStep::Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = MetaspaceStep::Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = MetaspaceStep::Prepend::kNever;
  } else {
    return json.Unsupported(absl::StrCat("prepend_scheme '", scheme, "'"));
  }
  if (step.replacement.empty()) {
    return json.Corrupt("replacement is empty");
  }
  return step;
}

// Ids of a special token of a template.
absl::Status AppendSpecialToken(const JsonFields& processor,
                                const JsonFields& piece,
                                std::vector<int32_t>& ids) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string name, piece.Text("id"));
  QSWEEP_ASSIGN_OR_RETURN(const JsonFields tokens,
                          processor.Object("special_tokens"));
  QSWEEP_ASSIGN_OR_RETURN(const JsonFields token, tokens.Object(name.c_str()));
  dom::array list;
  const std::optional<dom::element> element = token.Find("ids");
  if (!element || element->get(list) != simdjson::SUCCESS) {
    return token.Corrupt("ids is missing or not a list");
  }
  for (const dom::element item : list) {
    int64_t id = -1;
    if (item.get(id) != simdjson::SUCCESS || id < 0 || id > INT32_MAX) {
      return token.Corrupt("ids has an element that is no token id");
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

absl::Status ApplyTemplate(const JsonFields& json, TokenizerParts& parts) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<JsonFields> pieces,
                          json.Objects("single"));
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  int num_texts = 0;
  for (const JsonFields& piece : pieces) {
    if (piece.Has("Sequence")) {
      ++num_texts;
      continue;
    }
    QSWEEP_ASSIGN_OR_RETURN(const JsonFields special,
                            piece.Object("SpecialToken"));
    QSWEEP_RETURN_IF_ERROR(
        AppendSpecialToken(json, special, num_texts == 0 ? before : after));
  }
  if (num_texts != 1) {
    return json.Unsupported("a template with the text not exactly once");
  }
  parts.prefix.insert(parts.prefix.begin(), before.begin(), before.end());
  parts.suffix.insert(parts.suffix.end(), after.begin(), after.end());
  return absl::OkStatus();
}

// Calls apply(member) for each member of a Sequence.
template <typename Apply>
absl::Status ForEachMember(const JsonFields& json, const char* key,
                           Apply apply) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<JsonFields> members,
                          json.Objects(key));
  for (const JsonFields& member : members) {
    QSWEEP_RETURN_IF_ERROR(apply(member));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AppendNormalizers(const JsonFields& json,
                               std::vector<NormalizerStep>& steps) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string type, json.Text("type"));
  if (type == "Sequence") {
    return ForEachMember(json, "normalizers", [&](const JsonFields& member) {
      return AppendNormalizers(member, steps);
    });
  }
  if (type == "NFC") {
    steps.emplace_back(NfcStep());
  } else if (type == "Prepend") {
    QSWEEP_ASSIGN_OR_RETURN(std::string text, json.Text("prepend"));
    steps.emplace_back(PrependStep{std::move(text)});
  } else if (type == "Replace") {
    QSWEEP_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(json));
    QSWEEP_ASSIGN_OR_RETURN(std::string content, json.Text("content"));
    steps.emplace_back(ReplaceStep{std::move(pattern), std::move(content)});
  } else {
    return json.Unsupported(absl::StrCat("normalizer '", type, "'"));
  }
  return absl::OkStatus();
}

absl::Status AppendPreTokenizers(const JsonFields& json,
                                 std::vector<PreTokenizerStep>& steps) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string type, json.Text("type"));
  if (type == "Sequence") {
    return ForEachMember(json, "pretokenizers", [&](const JsonFields& member) {
      return AppendPreTokenizers(member, steps);
    });
  }
  if (type == "ByteLevel") {
    QSWEEP_ASSIGN_OR_RETURN(const bool prefix,
                            json.Bool("add_prefix_space", true));
    QSWEEP_ASSIGN_OR_RETURN(const bool regex, json.Bool("use_regex", true));
    steps.emplace_back(MakeByteLevelStep(prefix, regex));
  } else if (type == "Digits") {
    QSWEEP_ASSIGN_OR_RETURN(const bool individual,
                            json.Bool("individual_digits", false));
    steps.emplace_back(MakeDigitsStep(individual));
  } else if (type == "Split") {
    QSWEEP_ASSIGN_OR_RETURN(SplitStep step, ReadSplit(json));
    steps.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    QSWEEP_ASSIGN_OR_RETURN(MetaspaceStep step, ReadMetaspace(json));
    steps.emplace_back(std::move(step));
  } else {
    return json.Unsupported(absl::StrCat("pre-tokenizer '", type, "'"));
  }
  return absl::OkStatus();
}

absl::Status ApplyPostProcessor(const JsonFields& json, TokenizerParts& parts) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string type, json.Text("type"));
  if (type == "Sequence") {
    return ForEachMember(json, "processors", [&](const JsonFields& member) {
      return ApplyPostProcessor(member, parts);
    });
  }
  if (type == "TemplateProcessing") {
    return ApplyTemplate(json, parts);
  }
  if (type == "ByteLevel") {  // moves offsets, adds no token
    return absl::OkStatus();
  }
  return json.Unsupported(absl::StrCat("post-processor '", type, "'"));
}

}  // namespace qsweep
