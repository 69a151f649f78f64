#include "worker/tokenizer/text_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/types/optional.h"

#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

std::string Normalize(const NfcStep&, const std::string& text) {
  return NormalizeNfc(text);
}

std::string Normalize(const PrependStep& step, const std::string& text) {
  return text.empty() ? text : step.text + text;
}

std::string Normalize(const ReplaceStep& step, const std::string& text) {
  std::string out;
  size_t done = 0;
  step.pattern.ForEachMatch(text, [&](size_t begin, size_t end) {
    out.append(text, done, begin - done);
    out += step.content;
    done = end;
  });
  out.append(text, done);
  return out;
}

std::string NormalizeAll(const std::vector<NormalizerStep>& steps,
                         std::string text) {
  for (const NormalizerStep& step : steps) {
    text =
        std::visit([&text](const auto& s) { return Normalize(s, text); }, step);
  }
  return text;
}

// The tokens to look for before normalization, or after it in the form they
// then have.
std::vector<AddedToken> AddedTokens(const TokenizerParts& parts,
                                    bool normalized) {
  std::vector<AddedToken> tokens;
  for (AddedToken token : parts.added_tokens) {
    if (token.normalized == normalized) {
      if (normalized) {
        token.content = NormalizeAll(parts.normalizers, token.content);
      }
      tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

// Ids of the words met while one text is encoded: most words come again.
class WordCache {
 public:
  explicit WordCache(const Bpe& model) : model_(model) {}

  void AppendIds(absl::string_view word, std::vector<int32_t>& ids) {
    if (word.size() > kMaxWordBytes) {
      return model_.AppendIds(word, ids);
    }
    const auto it = known_.find(word);
    if (it != known_.end()) {
      ids.insert(ids.end(), it->second.begin(), it->second.end());
      return;
    }
    const size_t before = ids.size();
    model_.AppendIds(word, ids);
    known_.emplace(
        word, std::vector<int32_t>(ids.begin() + static_cast<ptrdiff_t>(before),
                                   ids.end()));
  }

 private:
  static constexpr size_t kMaxWordBytes = 256;
  const Bpe& model_;
  absl::flat_hash_map<std::string, std::vector<int32_t>> known_;
};

// "<0x0A>" -> 10.
std::optional<char> ParseByteToken(absl::string_view token) {
  uint32_t byte = 0;
  if (token.size() == 6 && absl::StartsWith(token, "<0x") && token[5] == '>' &&
      absl::SimpleHexAtoi(token.substr(3, 2), &byte)) {
    return static_cast<char>(static_cast<uint8_t>(byte));
  }
  return std::nullopt;
}

std::string SpelledBytes(absl::string_view token, TokenSpelling spelling) {
  if (spelling == TokenSpelling::kByteAlphabet) {
    return DecodeByteAlphabet(token);
  }
  if (const std::optional<char> byte = ParseByteToken(token)) {
    return std::string(1, *byte);
  }
  return absl::StrReplaceAll(token, {{"\u2581", " "}});
}

class TextTokenizer final : public Tokenizer {
 public:
  explicit TextTokenizer(TokenizerParts parts)
      : parts_(std::move(parts)),
        raw_finder_(AddedTokens(parts_, /*normalized=*/false)),
        normalized_finder_(AddedTokens(parts_, /*normalized=*/true)) {
    int32_t max_id = -1;
    for (const auto& [token, id] : parts_.model.vocabulary()) {
      max_id = std::max(max_id, id);
    }
    for (const AddedToken& token : parts_.added_tokens) {
      max_id = std::max(max_id, token.id);
    }
    bytes_.resize(static_cast<size_t>(max_id) + 1);
    for (const auto& [token, id] : parts_.model.vocabulary()) {
      bytes_[static_cast<size_t>(id)] = SpelledBytes(token, parts_.spelling);
    }
    for (const AddedToken& token : parts_.added_tokens) {
      bytes_[static_cast<size_t>(token.id)] =
          token.special ? "" : token.content;
    }
  }

  std::vector<int32_t> Encode(absl::string_view text) const override {
    const std::string valid = ReplaceBrokenUtf8(text);
    std::vector<int32_t> ids;
    ids.reserve(valid.size() / 3);
    WordCache cache(parts_.model);
    for (const TextPart& part : raw_finder_.Find(valid)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      const std::string normalized = NormalizeAll(
          parts_.normalizers,
          valid.substr(part.range.begin, part.range.end - part.range.begin));
      const bool at_start = part.range.begin == 0;
      for (const TextPart& inner : normalized_finder_.Find(normalized)) {
        if (inner.id >= 0) {
          ids.push_back(inner.id);
          continue;
        }
        AppendWords(normalized.substr(inner.range.begin,
                                      inner.range.end - inner.range.begin),
                    at_start && inner.range.begin == 0, cache, ids);
      }
    }
    return ids;
  }

  std::vector<int32_t> EncodeWithSpecial(
      absl::string_view text) const override {
    std::vector<int32_t> ids = parts_.prefix;
    const std::vector<int32_t> inner = Encode(text);
    ids.insert(ids.end(), inner.begin(), inner.end());
    ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
    return ids;
  }

  std::string TokenBytes(int32_t id) const override {
    return id >= 0 && static_cast<size_t>(id) < bytes_.size()
               ? bytes_[static_cast<size_t>(id)]
               : "";
  }

  int vocabulary_size() const override {
    return static_cast<int>(bytes_.size());
  }
  std::optional<int32_t> bos() const override { return parts_.bos; }
  std::optional<int32_t> eos() const override { return parts_.eos; }
  const Digest& digest() const override { return parts_.digest; }

 private:
  void AppendWords(std::string text, bool at_start, WordCache& cache,
                   std::vector<int32_t>& ids) const {
    SplitTextParts words;
    words.parts = {{0, text.size()}};
    words.text = std::move(text);
    words.at_start = at_start;
    for (const PreTokenizerStep& step : parts_.pre_tokenizers) {
      ApplyPreTokenizer(step, words);
    }
    for (const Range& word : words.parts) {
      cache.AppendIds(absl::string_view(words.text)
                          .substr(word.begin, word.end - word.begin),
                      ids);
    }
  }

  const TokenizerParts parts_;
  const AddedTokenFinder raw_finder_;
  const AddedTokenFinder normalized_finder_;
  std::vector<std::string> bytes_;  // by id
};

}  // namespace

std::unique_ptr<Tokenizer> MakeTextTokenizer(TokenizerParts parts) {
  return std::make_unique<TextTokenizer>(std::move(parts));
}

}  // namespace qsweep
