#include "worker/tokenizer/bpe.h"

#include <algorithm>
#include <queue>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

// A merge that may be done: of the symbol at `position` and the one after it.
struct Candidate {
  uint32_t rank = 0;
  int32_t position = 0;
  int32_t merged_id = 0;

  // Turned round: std::priority_queue has its greatest element on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

absl::StatusOr<Bpe> Bpe::Make(Vocabulary vocabulary, const Merges& merges,
                              BpeOptions options) {
  Bpe bpe;
  bpe.vocabulary_ = std::move(vocabulary);
  bpe.options_ = std::move(options);
  const auto find = [&bpe](const std::string& token) {
    const auto it = bpe.vocabulary_.find(token);
    return it == bpe.vocabulary_.end() ? -1 : it->second;
  };
  bpe.merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = find(left);
    const int32_t right_id = find(right);
    const int32_t merged_id = find(left + right);
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", rank, " ('", left, "' and '", right,
                       "') is not in the vocabulary"));
    }
    bpe.merges_.insert_or_assign(PairKey(left_id, right_id),
                                 Merge{static_cast<uint32_t>(rank), merged_id});
  }
  if (bpe.options_.unknown_token) {
    bpe.unknown_id_ = find(*bpe.options_.unknown_token);
    if (*bpe.unknown_id_ < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the unknown token '", *bpe.options_.unknown_token,
                       "' is not in the vocabulary"));
    }
  }
  for (size_t i = 0; i < kTableSize; ++i) {
    std::string character;
    AppendUtf8(static_cast<char32_t>(i), character);
    bpe.table_[i] = find(character);
  }
  for (size_t byte = 0; byte < bpe.fallback_.size(); ++byte) {
    bpe.fallback_[byte] = bpe.options_.byte_fallback
                              ? find(absl::StrFormat("<0x%02X>", byte))
                              : -1;
  }
  return bpe;
}

std::optional<int32_t> Bpe::CharacterId(absl::string_view character,
                                        char32_t code_point) const {
  if (code_point < kTableSize) {
    const int32_t id = table_[code_point];
    return id >= 0 ? std::optional<int32_t>(id) : std::nullopt;
  }
  const auto it = vocabulary_.find(character);
  return it != vocabulary_.end() ? std::optional<int32_t>(it->second)
                                 : std::nullopt;
}

bool Bpe::AppendFallback(absl::string_view character,
                         std::vector<Symbol>& symbols) const {
  const auto id_of = [this](char byte) {
    return fallback_[static_cast<uint8_t>(byte)];
  };
  if (std::any_of(character.begin(), character.end(),
                  [&](char byte) { return id_of(byte) < 0; })) {
    return false;
  }
  for (const char byte : character) {
    symbols.push_back({.id = id_of(byte)});
  }
  return true;
}

std::vector<Bpe::Symbol> Bpe::SymbolsOf(absl::string_view word) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  // An unknown token waits here until a known character follows it; byte
  // fallbacks pass it by, as in the official library.
  bool unknown_waits = false;
  for (size_t i = 0; i < word.size();) {
    const CodePoint c = DecodeAt(word, i);
    const absl::string_view character = word.substr(i, c.size);
    i += c.size;
    if (const std::optional<int32_t> id = CharacterId(character, c.value)) {
      if (unknown_waits) {
        symbols.push_back({.id = *unknown_id_});
        unknown_waits = false;
      }
      symbols.push_back({.id = *id});
      continue;
    }
    if (AppendFallback(character, symbols) || !unknown_id_) {
      continue;
    }
    if (unknown_waits && !options_.fuse_unknown) {
      symbols.push_back({.id = *unknown_id_});
    }
    unknown_waits = true;
  }
  if (unknown_waits) {
    symbols.push_back({.id = *unknown_id_});
  }
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
  }
  return symbols;
}

const Bpe::Merge* Bpe::FindMerge(const std::vector<Symbol>& symbols,
                                 int32_t left) const {
  const Symbol& symbol = symbols[static_cast<size_t>(left)];
  if (symbol.next < 0) {
    return nullptr;
  }
  const auto it = merges_.find(
      PairKey(symbol.id, symbols[static_cast<size_t>(symbol.next)].id));
  return it != merges_.end() ? &it->second : nullptr;
}

void Bpe::MergeAll(std::vector<Symbol>& symbols) const {
  std::priority_queue<Candidate> queue;
  const auto push = [&](int32_t left) {
    if (left < 0) {
      return;
    }
    if (const Merge* merge = FindMerge(symbols, left)) {
      queue.push({merge->rank, left, merge->id});
    }
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    push(static_cast<int32_t>(i));
  }
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<size_t>(top.position)];
    const Merge* merge =
        left.alive ? FindMerge(symbols, top.position) : nullptr;
    // A candidate whose neighbours changed is out of date, unless it would
    // still make the same token: that is the official library's test.
    if (merge == nullptr || merge->id != top.merged_id) {
      continue;
    }
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    right.alive = false;
    left.id = top.merged_id;
    left.next = right.next;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = top.position;
    }
    push(left.previous);
    push(top.position);
  }
}

void Bpe::AppendIds(absl::string_view word, std::vector<int32_t>& ids) const {
  if (options_.ignore_merges) {
    const auto it = vocabulary_.find(word);
    if (it != vocabulary_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  std::vector<Symbol> symbols = SymbolsOf(word);
  MergeAll(symbols);
  for (const Symbol& symbol : symbols) {
    if (symbol.alive) {
      ids.push_back(symbol.id);
    }
  }
}

}  // namespace qsweep
