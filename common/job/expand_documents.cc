#include "common/job/expand_documents.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"

namespace qsweep {
namespace {

constexpr size_t kMostIdsInNote = 8;

std::set<std::string> IdsOf(const v1::CorpusLanguage& language) {
  return {language.document_ids().begin(), language.document_ids().end()};
}

std::string ListIds(const std::vector<std::string>& ids) {
  std::vector<std::string> shown = ids;
  if (shown.size() > kMostIdsInNote) {
    shown.resize(kMostIdsInNote);
    shown.emplace_back("...");
  }
  return absl::StrJoin(shown, ", ");
}

// The position of the language that is `reference` when the spec names none.
int DefaultReference(const v1::JobSpec& spec, const v1::Corpus& corpus,
                     const std::vector<int>& languages) {
  for (const int index : languages) {
    if (corpus.languages(index).language() == "eng" ||
        corpus.languages(index).language() == "en") {
      return index;
    }
  }
  if (spec.languages().empty()) {
    return languages.front();
  }
  const std::string first[] = {spec.languages(0)};
  const auto resolved = ResolveLanguages(corpus, first);
  QSWEEP_CHECK(resolved.ok());  // the caller resolved them all
  return resolved->front();
}

// Splits the ids into those every language has and the others.
struct Alignment {
  std::set<std::string> common;
  std::vector<std::string> dropped;  // in some language only
};

Alignment Align(const v1::Corpus& corpus, const std::vector<int>& languages) {
  std::map<std::string, size_t> seen;
  for (const int index : languages) {
    for (const std::string& id : corpus.languages(index).document_ids()) {
      ++seen[id];
    }
  }
  Alignment alignment;
  for (const auto& [id, count] : seen) {
    if (count == languages.size()) {
      alignment.common.insert(id);
    } else {
      alignment.dropped.push_back(id);
    }
  }
  return alignment;
}

}  // namespace

absl::StatusOr<ChosenLanguages> ChooseLanguages(
    const v1::JobSpec& spec, const v1::Corpus& corpus,
    std::vector<std::string>& notes) {
  const std::vector<std::string> wanted(spec.languages().begin(),
                                        spec.languages().end());
  ChosenLanguages chosen;
  QSWEEP_ASSIGN_OR_RETURN(chosen.languages, ResolveLanguages(corpus, wanted));
  if (chosen.languages.empty()) {
    return MakeError(kNoDocuments,
                     absl::StrCat("corpus ", corpus.name(), " is empty"),
                     "corpus");
  }
  int reference = 0;
  if (spec.reference().empty()) {
    reference = DefaultReference(spec, corpus, chosen.languages);
  } else {
    const std::string named[] = {spec.reference()};
    const auto resolved = ResolveLanguages(corpus, named);
    if (!resolved.ok()) {
      absl::Status status = resolved.status();
      if (std::optional<ErrorInfo> info = GetErrorInfo(status)) {
        info->field = "reference";
        SetErrorInfo(status, *info);
      }
      return status;
    }
    reference = resolved->front();
  }
  chosen.reference = corpus.languages(reference).language();
  if (!std::binary_search(chosen.languages.begin(), chosen.languages.end(),
                          reference)) {
    chosen.languages.insert(std::upper_bound(chosen.languages.begin(),
                                             chosen.languages.end(), reference),
                            reference);
    notes.push_back(absl::StrCat("language ", chosen.reference,
                                 " added: it is the reference"));
  }
  return chosen;
}

absl::StatusOr<ExpandedEvaluation> SelectDocuments(
    const v1::EvaluationRequest& eval, const std::string& field, uint64_t seed,
    const v1::Corpus& corpus, const std::vector<int>& languages,
    std::vector<std::string>& notes) {
  Alignment alignment = Align(corpus, languages);
  const bool aligned = !alignment.common.empty();
  if (!aligned && eval.eval() == "aligned") {
    return MakeError(
        kNoDocuments,
        absl::StrCat("no document id of corpus ", corpus.name(), " is in all ",
                     languages.size(), " languages"),
        field,
        "Choose fewer languages, or the evaluation "
        "hf-text.");
  }
  if (!aligned) {
    notes.push_back(absl::StrCat(
        field, ": the languages share no document id; all are taken"));
  } else if (!alignment.dropped.empty()) {
    notes.push_back(absl::StrCat(field, ": ", alignment.dropped.size(),
                                 " documents dropped: not in all languages (",
                                 ListIds(alignment.dropped), ")"));
  }
  const std::set<std::string> units =
      SampleIds(alignment.common, seed, eval.samples());
  if (eval.samples() > alignment.common.size() && aligned) {
    notes.push_back(absl::StrCat(field, ": ", eval.samples(),
                                 " samples asked for, the corpus has ",
                                 alignment.common.size()));
  }
  ExpandedEvaluation selected;
  selected.max_tokens = static_cast<int>(eval.max_tokens());
  // One order of ids for all languages: that of the first.
  const v1::CorpusLanguage& first = corpus.languages(languages.front());
  for (size_t l = 0; l < languages.size(); ++l) {
    const v1::CorpusLanguage& language = corpus.languages(languages[l]);
    if (language.document_bytes_size() != language.document_ids_size()) {
      return MakeError(
          kBadValue,
          absl::StrCat("corpus ", corpus.name(), " does not say how long the ",
                       "documents of ", language.language(), " are"),
          "corpus");
    }
    std::map<std::string, int> position;
    for (int d = 0; d < language.document_ids_size(); ++d) {
      position[language.document_ids(d)] = d;
    }
    const std::set<std::string> wanted =
        aligned ? units : SampleIds(IdsOf(language), seed, eval.samples());
    const v1::CorpusLanguage& order = aligned ? first : language;
    for (const std::string& id : order.document_ids()) {
      if (wanted.count(id) == 0) {
        continue;
      }
      const int d = position.at(id);
      const auto digest = Digest::FromBytes(language.document_digests(d));
      QSWEEP_RETURN_IF_ERROR(digest.status());
      selected.documents.push_back(
          {static_cast<int>(l), id, *digest, language.document_bytes(d)});
    }
  }
  return selected;
}

std::set<std::string> SampleIds(const std::set<std::string>& ids, uint64_t seed,
                                uint32_t samples) {
  if (samples == 0 || samples >= ids.size()) {
    return ids;
  }
  std::set<std::pair<Digest, std::string>> ranked;
  for (const std::string& id : ids) {
    ranked.emplace(
        Digest::Of(absl::StrCat("qsweep-sample 1\nseed=", seed, "\n", id)), id);
  }
  std::set<std::string> sampled;
  for (const auto& entry : ranked) {
    if (sampled.size() == samples) {
      break;
    }
    sampled.insert(entry.second);
  }
  return sampled;
}

}  // namespace qsweep
