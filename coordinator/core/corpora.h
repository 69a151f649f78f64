#ifndef QSWEEP_COORDINATOR_CORE_CORPORA_H_
#define QSWEEP_COORDINATOR_CORE_CORPORA_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Digest of the corpus of that name, or of the corpus with that digest in hex.
// NOT_FOUND QS2113, with the names there are.
absl::StatusOr<Digest> ResolveCorpus(const State& state,
                                     absl::string_view name_or_digest);

// Names a corpus. stored: whether each language's artifact is in the store,
// parallel to corpus.languages. INVALID_ARGUMENT: ValidateCorpus's, QS1003 no
// name; NOT_FOUND QS4041 an artifact that is missing.
Decision<v1::AddCorpusResponse> DecideAddCorpus(
    const State& state, std::shared_ptr<const v1::Corpus> corpus,
    const std::vector<bool>& stored);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CORPORA_H_
