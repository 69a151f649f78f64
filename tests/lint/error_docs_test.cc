// docs/reference/errors.md is the registry, written out: a code that is not
// documented, or a documented one that is gone, fails.

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr char kPath[] = QSWEEP_SOURCE_DIR "/docs/reference/errors.md";
constexpr char kHead[] =
    R"(# Error codes
An error reads `error[QSxxxx]: what is wrong   at field or file`, then a hint. With `-o json` it is
one JSON object on stderr. A code never changes meaning; `qctl docs QSxxxx` prints its line.
QS1 specs and selectors, QS2 languages and corpora, QS3 models and tokenizers, QS4 coordinator, store
and query, QS5 worker, engine and device, QS6 access, QS7 files, QS9 defects.

| code | meaning | exit code |
|---|---|---|
)";

std::string Expected() {
  std::string text = kHead;
  for (const ErrorCode* code : AllErrorCodes()) {
    absl::StrAppend(&text, "| ", code->code, " | ", code->title, " | ",
                    static_cast<int>(code->exit_code), " |\n");
  }
  return text;
}

TEST(ErrorDocs, AreTheRegistry) {
  std::ifstream file(kPath);
  std::stringstream found;
  found << file.rdbuf();
  if (found.str() != Expected()) {
    const std::string proposal = absl::StrCat(QSWEEP_BINARY_DIR, "/errors.md");
    std::ofstream(proposal) << Expected();
    FAIL() << kPath << " differs from the registry; copy " << proposal
           << " over it";
  }
}

}  // namespace
}  // namespace qsweep
