#ifndef QSWEEP_COMMON_JOB_EXPAND_DOCUMENTS_H_
#define QSWEEP_COMMON_JOB_EXPAND_DOCUMENTS_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/job/expand.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

struct ChosenLanguages {
  std::vector<int> languages;  // positions in corpus.languages, ascending
  std::string reference;       // corpus code; one of them
};

// The languages of the spec, all for none, with the reference among them: the
// one named, else English, else the first of the spec.
absl::StatusOr<ChosenLanguages> ChooseLanguages(
    const v1::JobSpec& spec, const v1::Corpus& corpus,
    std::vector<std::string>& notes);

// The documents one evaluation scores. field: "evals[0]". QS2107.
absl::StatusOr<ExpandedEvaluation> SelectDocuments(
    const v1::EvaluationRequest& eval, const std::string& field, uint64_t seed,
    const v1::Corpus& corpus, const std::vector<int>& languages,
    std::vector<std::string>& notes);

// The `samples` ids whose SHA-256 of "qsweep-sample 1\nseed=S\nID" is smallest;
// all for 0. Whatever the order of ids.
std::set<std::string> SampleIds(const std::set<std::string>& ids, uint64_t seed,
                                uint32_t samples);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_EXPAND_DOCUMENTS_H_
