#ifndef QSWEEP_COMMON_JOB_CORPUS_READERS_H_
#define QSWEEP_COMMON_JOB_CORPUS_READERS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/job/corpus.h"

namespace qsweep {

// The formats behind ReadCorpus. Private to common/job.

// A whole file. NOT_FOUND or INVALID_ARGUMENT QS2114.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// One UDHR translation: the header is document "preamble", each article the
// document of its number. path: for errors. INVALID_ARGUMENT QS2114.
absl::StatusOr<LanguageText> ParseUdhrHtml(absl::string_view html,
                                           const std::string& path);

// Every *.html of a folder, in order of name.
absl::StatusOr<std::vector<LanguageText>> ReadUdhrFolder(
    const std::string& folder);

// Whether the first line is a {language, id, text} object.
bool LooksLikeJsonLines(absl::string_view text);

absl::StatusOr<std::vector<LanguageText>> ParseJsonLines(
    absl::string_view text, const std::string& path);

// {language: text or [texts]}; ids are positions from 0.
absl::StatusOr<std::vector<LanguageText>> ParseJsonTexts(
    absl::string_view text, const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CORPUS_READERS_H_
