#ifndef QSWEEP_WORKER_TOKENIZER_TEXT_TOKENIZER_H_
#define QSWEEP_WORKER_TOKENIZER_TEXT_TOKENIZER_H_

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "worker/tokenizer/added_tokens.h"
#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/pre_tokenizer.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {

// Steps that change a text before it is cut.
struct NfcStep {};
struct PrependStep {
  std::string text;  // put before a text that is not empty
};
struct ReplaceStep {
  Pattern pattern;
  std::string content;
};
using NormalizerStep = std::variant<NfcStep, PrependStep, ReplaceStep>;

// How a token's text says which bytes it stands for.
enum class TokenSpelling {
  kByteAlphabet,  // GPT-2: one character per byte
  kMetaspace,     // "▁" is a space, "<0x0A>" a byte
};

// All parts of a tokenizer, in the order in which they work.
struct TokenizerParts {
  std::vector<AddedToken> added_tokens;
  std::vector<NormalizerStep> normalizers;
  std::vector<PreTokenizerStep> pre_tokenizers;
  Bpe model;
  std::vector<int32_t> prefix;  // of the template, before and after the text
  std::vector<int32_t> suffix;
  TokenSpelling spelling = TokenSpelling::kByteAlphabet;
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  Digest digest;
};

std::unique_ptr<Tokenizer> MakeTextTokenizer(TokenizerParts parts);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_TEXT_TOKENIZER_H_
