#ifndef QSWEEP_WORKER_TOKENIZER_BPE_H_
#define QSWEEP_WORKER_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

struct BpeOptions {
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false;   // a run of unknown characters is one token
  bool byte_fallback = false;  // unknown characters as <0xXX> tokens
  bool ignore_merges = false;  // a word that is a token is that token
};

// Byte pair encoding of single words: the pair of neighbours with the lowest
// rank is merged first, the leftmost of equals. Immutable, thread-safe.
class Bpe {
 public:
  using Vocabulary = absl::flat_hash_map<std::string, int32_t>;
  using Merges = std::vector<std::pair<std::string, std::string>>;  // by rank

  // INVALID_ARGUMENT: a merge or the unknown token is not in the vocabulary.
  static absl::StatusOr<Bpe> Make(Vocabulary vocabulary, const Merges& merges,
                                  BpeOptions options);

  // Appends the ids of word, valid UTF-8. Time n log n in its length.
  // Characters without a token or fallback are dropped, as in the official
  // library.
  void AppendIds(absl::string_view word, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank = 0;
    int32_t id = 0;
  };
  struct Symbol {
    int32_t id = 0;
    int32_t previous = -1;
    int32_t next = -1;
    bool alive = true;
  };
  static constexpr size_t kTableSize = 0x250;  // Latin and the byte alphabet

  Bpe() = default;
  std::optional<int32_t> CharacterId(absl::string_view character,
                                     char32_t code_point) const;
  std::vector<Symbol> SymbolsOf(absl::string_view word) const;
  bool AppendFallback(absl::string_view character,
                      std::vector<Symbol>& symbols) const;
  void MergeAll(std::vector<Symbol>& symbols) const;
  const Merge* FindMerge(const std::vector<Symbol>& symbols,
                         int32_t left) const;

  Vocabulary vocabulary_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // left id << 32 | right id
  std::array<int32_t, kTableSize> table_ = {};   // code point -> id or -1
  std::array<int32_t, 256> fallback_ = {};       // byte -> id or -1
  BpeOptions options_;
  std::optional<int32_t> unknown_id_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_BPE_H_
