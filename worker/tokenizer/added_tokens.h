#ifndef QSWEEP_WORKER_TOKENIZER_ADDED_TOKENS_H_
#define QSWEEP_WORKER_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "worker/tokenizer/split.h"

namespace qsweep {

// A token that is recognised in the text before anything else is done to it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // not next to a word character
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // takes the white space after it
  bool normalized = false;   // looked for in the normalized text
};

// A part of a text: an added token, or (id < 0) what is left to tokenize.
struct TextPart {
  Range range;
  int32_t id = -1;
};

// Finds added tokens: from left to right, the longest first, as the official
// library does. Immutable, thread-safe.
class AddedTokenFinder {
 public:
  // Tokens with empty content are never found.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // The whole text in order; parts without an id are not empty. text: valid
  // UTF-8.
  std::vector<TextPart> Find(absl::string_view text) const;

 private:
  const AddedToken* LongestAt(absl::string_view text, size_t position) const;

  std::vector<AddedToken> tokens_;  // longest first
  std::array<std::vector<size_t>, 256> by_first_byte_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_ADDED_TOKENS_H_
