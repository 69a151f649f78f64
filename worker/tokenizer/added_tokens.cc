#include "worker/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

bool StandsAlone(absl::string_view text, size_t begin, size_t end) {
  const bool word_before =
      begin > 0 &&
      IsWordCharacter(DecodeAt(text, PreviousStart(text, begin)).value);
  const bool word_after =
      end < text.size() && IsWordCharacter(DecodeAt(text, end).value);
  return !word_before && !word_after;
}

// Start of the white space that ends at `begin`, not before `limit`.
size_t SkipSpaceLeft(absl::string_view text, size_t begin, size_t limit) {
  while (begin > limit) {
    const size_t previous = PreviousStart(text, begin);
    if (!IsWhiteSpace(DecodeAt(text, previous).value)) {
      break;
    }
    begin = previous;
  }
  return begin;
}

size_t SkipSpaceRight(absl::string_view text, size_t end) {
  while (end < text.size()) {
    const CodePoint c = DecodeAt(text, end);
    if (!IsWhiteSpace(c.value)) {
      break;
    }
    end += c.size;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_,
                [](const AddedToken& token) { return token.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) {
                     return a.content.size() > b.content.size();
                   });
  for (size_t i = 0; i < tokens_.size(); ++i) {
    by_first_byte_[static_cast<uint8_t>(tokens_[i].content[0])].push_back(i);
  }
}

const AddedToken* AddedTokenFinder::LongestAt(absl::string_view text,
                                              size_t position) const {
  const absl::string_view rest = text.substr(position);
  for (const size_t i : by_first_byte_[static_cast<uint8_t>(rest[0])]) {
    if (absl::StartsWith(rest, tokens_[i].content)) {
      return &tokens_[i];
    }
  }
  return nullptr;
}

std::vector<TextPart> AddedTokenFinder::Find(absl::string_view text) const {
  std::vector<TextPart> parts;
  size_t done = 0;  // end of the last part
  for (size_t position = 0; position < text.size();) {
    const AddedToken* token = LongestAt(text, position);
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position;
    size_t end = begin + token->content.size();
    position = end;
    if (token->single_word && !StandsAlone(text, begin, end)) {
      continue;
    }
    if (token->left_strip) {
      begin = SkipSpaceLeft(text, begin, done);
    }
    if (token->right_strip) {
      end = SkipSpaceRight(text, end);
    }
    if (done < begin) {
      parts.push_back({{done, begin}});
    }
    parts.push_back({{begin, end}, token->id});
    done = end;
  }
  if (done < text.size()) {
    parts.push_back({{done, text.size()}});
  }
  return parts;
}

}  // namespace qsweep
