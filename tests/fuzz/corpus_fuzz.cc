// Corpora. The input: a file, then the languages wanted. It is read as the file
// of a corpus, as a translation of the UDHR, and as an artifact.
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <google/protobuf/util/message_differencer.h>

#include "common/job/corpus.h"
#include "common/job/utf8.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/scratch.h"

namespace qsweep::fuzz {
namespace {

using google::protobuf::util::MessageDifferencer;

void CheckCorpus(const absl::StatusOr<CorpusData>& read) {
  if (!OkOrNamed(read)) {
    return;
  }
  Expect(ValidateCorpus(read->corpus).ok(),
         "a corpus that was read is not valid");
  for (size_t i = 0; i < read->languages.size(); ++i) {
    const auto again = ParseLanguageCorpus(read->artifacts[i]);
    Expect(again.ok() && MessageDifferencer::Equals(*again, read->languages[i]),
           "an artifact is not what it was made of");
    for (const v1::Document& document : read->languages[i].documents()) {
      Expect(IsValidUtf8(document.text()) && IsValidUtf8(document.id()),
             "a document that is not UTF-8");
    }
  }
}

void CheckAll(const std::string& text, std::span<const std::string> wanted) {
  static const Scratch kFolder;
  static const bool kMade =
      std::filesystem::create_directories(kFolder / "udhr/declaration");
  Expect(kMade, "no folder");
  CheckCorpus(ReadCorpus("fuzzed", kFolder.Write("corpus", text), wanted));
  kFolder.Write("udhr/declaration/xxx.html", text);
  CheckCorpus(ReadCorpus("fuzzed", kFolder / "udhr", wanted));
  const auto artifact = ParseLanguageCorpus(text);
  if (OkOrNamed(artifact)) {
    Expect(SerializeLanguageCorpus(*artifact) == text,
           "an artifact has two texts");
  }
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> texts = qsweep::fuzz::Texts(data, size);
  qsweep::fuzz::CheckAll(texts.front(), std::span(texts).subspan(1));
  return 0;
}
