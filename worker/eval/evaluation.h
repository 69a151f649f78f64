#ifndef QSWEEP_WORKER_EVAL_EVALUATION_H_
#define QSWEEP_WORKER_EVAL_EVALUATION_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "worker/tokenizer/tokenizer.h"

namespace qsweep {

// How a document becomes tokens to score. Pure functions over values.

enum class Convention {
  kAligned,  // after BOS (EOS where there is no BOS), every token scored
  kHfText,   // what the tokenizer adds itself; the first token is not scored
};

// An evaluation text, taken apart: "aligned@1;tok=<hex>[;max_tokens=N]".
struct Evaluation {
  Convention convention = Convention::kAligned;
  Digest tokenizer_digest;
  int max_tokens =
      0;  // a longer document is not scored; 0: the model's context
};

// INVALID_ARGUMENT QS1052: not an evaluation, or a version this build does not
// have.
absl::StatusOr<Evaluation> ParseEvaluation(absl::string_view text);

// Names with version of every evaluation this build has: "aligned@1".
std::vector<std::string> KnownEvaluations();

// Why a document has sums, or has none. Durable, so the numbers are those of
// the RowStatus message.
enum class RowStatus { kOk = 1, kOneToken = 2, kTooLong = 3, kEmpty = 4 };

// A document ready to be scored: ids[i + 1] is predicted from ids[0..i].
struct TokenizedDocument {
  RowStatus status = RowStatus::kOk;
  std::vector<int32_t> ids;
  uint64_t bytes = 0;         // UTF-8 bytes of the document
  uint64_t bytes_scored = 0;  // of the scored tokens
  uint64_t chars = 0;         // code points of the document

  // Tokens with a prediction; also the rows the model computes, since nothing
  // is predicted from the last token.
  int64_t num_scored() const {
    return ids.empty() ? 0 : static_cast<int64_t>(ids.size()) - 1;
  }
  std::span<const int32_t> scored() const {
    return std::span(ids).subspan(ids.empty() ? 0 : 1);
  }
};

// ids stay filled whatever the status, for the unigram model of the language.
// UNIMPLEMENTED QS3005: `aligned` with a tokenizer that has neither BOS nor
// EOS.
absl::StatusOr<TokenizedDocument> TokenizeDocument(const Tokenizer& tokenizer,
                                                   const Evaluation& evaluation,
                                                   int context_length,
                                                   absl::string_view text);

// What each document would cost without a model: the negative log-likelihood,
// in nats, of its scored tokens under the unigram frequencies of all other
// documents of its language, each count plus 1/2, with one class for all
// tokens the others lack. Parallel to documents; 0 where nothing is scored.
std::vector<double> UnigramNll(std::span<const TokenizedDocument> documents);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_EVAL_EVALUATION_H_
