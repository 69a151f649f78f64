#ifndef QSWEEP_WORKER_TOKENIZER_TOKENIZER_H_
#define QSWEEP_WORKER_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"

namespace qsweep {

// Text to token ids, as the model's own tokenizer does it. Immutable,
// thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of text, added tokens recognised, no special token added. Any bytes:
  // broken UTF-8 becomes what the official library makes of it.
  virtual std::vector<int32_t> Encode(absl::string_view text) const = 0;
  // Ids with what the tokenizer's own template adds (BOS, "</s>", ...): what
  // hf-text scores.
  virtual std::vector<int32_t> EncodeWithSpecial(
      absl::string_view text) const = 0;
  // UTF-8 bytes a token stands for; empty for special tokens.
  virtual std::string TokenBytes(int32_t id) const = 0;

  virtual int vocabulary_size() const = 0;
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  // SHA-256 of everything ids depend on; part of the evaluation's key.
  virtual const Digest& digest() const = 0;
};

// From the tokenizer.json of a Hugging Face directory. NOT_FOUND QS3001,
// DATA_LOSS QS3003 (not JSON, or inconsistent), UNIMPLEMENTED QS3005 naming the
// part.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(
    const std::string& path);

// What a GGUF file says of its tokenizer (tokenizer.ggml.*).
struct GgufVocabulary {
  std::string model;  // "gpt2"
  std::string pre;    // "smollm"
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;
  std::vector<std::string> merges;  // "a b"
  std::optional<int32_t> bos, eos;
  bool add_bos = false;
};
// UNIMPLEMENTED QS3005 for another model or pre.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(
    GgufVocabulary vocabulary);
// tokenizer.json of the same tokenizer, in its official form. vocabulary: of
// which MakeGgufTokenizer has made one.
std::string FormatTokenizerJson(const GgufVocabulary& vocabulary);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_TOKENIZER_H_
