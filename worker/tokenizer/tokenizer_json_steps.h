#ifndef QSWEEP_WORKER_TOKENIZER_TOKENIZER_JSON_STEPS_H_
#define QSWEEP_WORKER_TOKENIZER_TOKENIZER_JSON_STEPS_H_

#include <vector>

#include "absl/status/status.h"

#include "worker/tokenizer/json_fields.h"
#include "worker/tokenizer/text_tokenizer.h"

namespace qsweep {

// Each appends the steps that one component of tokenizer.json stands for, those
// of a Sequence one after another. DATA_LOSS QS3003; UNIMPLEMENTED QS3005
// naming the component.
absl::Status AppendNormalizers(const JsonFields& json,
                               std::vector<NormalizerStep>& steps);
absl::Status AppendPreTokenizers(const JsonFields& json,
                                 std::vector<PreTokenizerStep>& steps);
// Puts what a post-processor adds around parts.prefix and parts.suffix.
absl::Status ApplyPostProcessor(const JsonFields& json, TokenizerParts& parts);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_TOKENIZER_JSON_STEPS_H_
