#include "worker/eval/evaluation.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"

namespace qsweep {
namespace {

constexpr absl::string_view kAlignedName = "aligned@1";
constexpr absl::string_view kHfTextName = "hf-text@1";

// Bytes that start a code point; for broken UTF-8 an upper bound.
uint64_t CountCodePoints(absl::string_view text) {
  return static_cast<uint64_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & '\xC0') != '\x80'; }));
}

RowStatus StatusOf(absl::string_view text, const TokenizedDocument& document,
                   int64_t limit) {
  if (text.empty() || document.ids.empty()) {
    return RowStatus::kEmpty;
  }
  if (document.ids.size() == 1) {
    return RowStatus::kOneToken;
  }
  if (limit > 0 && static_cast<int64_t>(document.ids.size()) > limit) {
    return RowStatus::kTooLong;
  }
  return RowStatus::kOk;
}

absl::StatusOr<std::vector<int32_t>> AlignedIds(const Tokenizer& tokenizer,
                                                absl::string_view text) {
  const std::optional<int32_t> start =
      tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
  if (!start) {
    return MakeError(kUnsupportedTokenizer,
                     "The evaluation 'aligned' scores every token after a BOS "
                     "or EOS token, and this tokenizer has neither.",
                     "", "Use --eval hf-text.");
  }
  std::vector<int32_t> ids = {*start};
  const std::vector<int32_t> own = tokenizer.Encode(text);
  ids.insert(ids.end(), own.begin(), own.end());
  return ids;
}

absl::Status BadEvaluation(absl::string_view text) {
  return MakeError(kUnknownEvaluation,
                   absl::StrCat("This engine has no evaluation '", text, "'."),
                   "evaluation",
                   absl::StrCat("It has ", kAlignedName, " and ", kHfTextName,
                                "; update the worker if it is older."));
}

}  // namespace

absl::StatusOr<Evaluation> ParseEvaluation(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ';');
  Evaluation evaluation;
  if (parts[0] == kHfTextName) {
    evaluation.convention = Convention::kHfText;
  } else if (parts[0] != kAlignedName) {
    return BadEvaluation(text);
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    absl::string_view value = parts[i];
    if (absl::ConsumePrefix(&value, "tok=")) {
      const absl::StatusOr<Digest> digest = Digest::FromHex(value);
      if (!digest.ok()) {
        return BadEvaluation(text);
      }
      evaluation.tokenizer_digest = *digest;
    } else if (!absl::ConsumePrefix(&value, "max_tokens=") ||
               !absl::SimpleAtoi(value, &evaluation.max_tokens) ||
               evaluation.max_tokens <= 0) {
      return BadEvaluation(text);
    }
  }
  // It is part of what a measurement is stored under: one text each.
  const absl::StatusOr<std::string> canonical =
      EvaluationText(parts[0].substr(0, parts[0].find('@')),
                     evaluation.tokenizer_digest, evaluation.max_tokens);
  if (evaluation.tokenizer_digest.empty() || !canonical.ok() ||
      *canonical != text) {
    return BadEvaluation(text);
  }
  return evaluation;
}

std::vector<std::string> KnownEvaluations() {
  return {std::string(kAlignedName), std::string(kHfTextName)};
}

absl::StatusOr<TokenizedDocument> TokenizeDocument(const Tokenizer& tokenizer,
                                                   const Evaluation& evaluation,
                                                   int context_length,
                                                   absl::string_view text) {
  TokenizedDocument document;
  document.bytes = text.size();
  document.chars = CountCodePoints(text);
  if (evaluation.convention == Convention::kAligned) {
    QSWEEP_ASSIGN_OR_RETURN(document.ids, AlignedIds(tokenizer, text));
    document.bytes_scored = document.bytes;
  } else {
    document.ids = tokenizer.EncodeWithSpecial(text);
    for (const int32_t id : document.scored()) {
      document.bytes_scored += tokenizer.TokenBytes(id).size();
    }
  }
  const int limit = evaluation.max_tokens > 0 && context_length > 0
                        ? std::min(evaluation.max_tokens, context_length)
                        : std::max(evaluation.max_tokens, context_length);
  document.status = StatusOf(text, document, limit);
  return document;
}

std::vector<double> UnigramNll(std::span<const TokenizedDocument> documents) {
  std::unordered_map<int32_t, int64_t> all;
  int64_t total = 0;
  for (const TokenizedDocument& document : documents) {
    for (const int32_t id : document.scored()) {
      ++all[id];
      ++total;
    }
  }
  std::vector<double> result;
  for (const TokenizedDocument& document : documents) {
    std::unordered_map<int32_t, int64_t> own;
    for (const int32_t id : document.scored()) {
      ++own[id];
    }
    // What the other documents hold: counts, and the kinds of token seen.
    auto kinds = static_cast<int64_t>(all.size());
    for (const auto& [id, count] : own) {
      kinds -= all[id] == count ? 1 : 0;
    }
    const double mass = static_cast<double>(total - document.num_scored()) +
                        0.5 * static_cast<double>(kinds + 1);
    double nll = 0;
    for (const int32_t id : document.scored()) {
      const auto others = static_cast<double>(all[id] - own[id]);
      nll -= std::log((others + 0.5) / mass);
    }
    result.push_back(nll);
  }
  return result;
}

}  // namespace qsweep
