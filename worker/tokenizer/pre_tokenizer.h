#ifndef QSWEEP_WORKER_TOKENIZER_PRE_TOKENIZER_H_
#define QSWEEP_WORKER_TOKENIZER_PRE_TOKENIZER_H_

#include <array>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/tokenizer/split.h"

namespace qsweep {

// A text and the parts of it that the model sees one by one. Parts are in
// order and do not overlap.
struct SplitTextParts {
  std::string text;
  std::vector<Range> parts;
  bool at_start = true;  // the first part begins where the user's text begins
};

// One step of cutting a text into words, as in the official library. The
// variants hold the parameters; ApplyPreTokenizer does the work.
struct SplitStep {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
// Spaces become `replacement`, which may also be put in front.
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\u2581";
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
// Each byte becomes one printable character (GPT-2's alphabet).
struct ByteLevelStep {
  bool add_prefix_space = false;
  std::shared_ptr<const Pattern> regex;  // GPT-2's words; nullptr: no cutting
};
using PreTokenizerStep = std::variant<SplitStep, MetaspaceStep, ByteLevelStep>;

// The step on every part of `words`. Immutable steps: thread-safe.
void ApplyPreTokenizer(const PreTokenizerStep& step, SplitTextParts& words);

ByteLevelStep MakeByteLevelStep(bool add_prefix_space, bool use_regex);
// Each number character alone, or runs of them.
SplitStep MakeDigitsStep(bool individual_digits);

// GPT-2's alphabet: the character that stands for a byte, as UTF-8.
const std::array<std::string, 256>& ByteAlphabet();
// The bytes a token in that alphabet stands for; characters outside it stand
// for themselves.
std::string DecodeByteAlphabet(absl::string_view token);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_PRE_TOKENIZER_H_
