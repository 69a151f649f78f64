#include "coordinator/core/corpora.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/job/corpus.h"

namespace qsweep {

absl::StatusOr<Digest> ResolveCorpus(const State& state,
                                     absl::string_view name_or_digest) {
  const auto it = state.corpora().find(std::string(name_or_digest));
  if (it != state.corpora().end()) {
    return it->second;
  }
  if (const auto digest = Digest::FromHex(name_or_digest); digest.ok()) {
    return *digest;
  }
  const std::string names = absl::StrJoin(
      state.corpora(), ", ",
      [](std::string* out, const auto& entry) { out->append(entry.first); });
  return MakeError(kUnknownCorpus,
                   absl::StrCat("no corpus '", name_or_digest, "'"), "corpus",
                   names.empty() ? "Add one with 'qctl corpora add'."
                                 : absl::StrCat("There are: ", names, "."));
}

Decision<v1::AddCorpusResponse> DecideAddCorpus(
    const State& state, std::shared_ptr<const v1::Corpus> corpus,
    const std::vector<bool>& stored) {
  if (corpus->name().empty()) {
    return {.reply = MakeError(kMissingField, "the corpus has no name",
                               "corpus.name")};
  }
  if (const absl::Status status = ValidateCorpus(*corpus); !status.ok()) {
    return {.reply = status};
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    if (!stored[i]) {
      return {
          .reply = MakeError(
              kArtifactNotFound,
              absl::StrCat("the texts of ",
                           corpus->languages(static_cast<int>(i)).language(),
                           " were not uploaded"),
              absl::StrCat("languages[", i, "]"))};
    }
  }
  v1::AddCorpusResponse response;
  const auto named = state.corpora().find(corpus->name());
  response.set_existed(named != state.corpora().end() &&
                       named->second.bytes() == corpus->digest());
  if (response.existed()) {
    return {.reply = response};
  }
  return {.mutations = {CorpusAdded{.corpus = std::move(corpus)}},
          .reply = response};
}

}  // namespace qsweep
