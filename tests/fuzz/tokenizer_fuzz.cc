// Tokenizers. The input: tokenizer.json, then texts.
#include <string>
#include <vector>

#include "tests/fuzz/input.h"
#include "tests/fuzz/model_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const qsweep::fuzz::Scratch folder;
  const std::vector<std::string> texts = qsweep::fuzz::Texts(data, size);
  const auto tokenizer =
      qsweep::LoadTokenizerJson(folder.Write("tokenizer.json", texts.front()));
  if (qsweep::fuzz::OkOrNamed(tokenizer)) {
    for (size_t i = 1; i < texts.size(); ++i) {
      qsweep::fuzz::CheckTokenizer(**tokenizer, texts[i]);
    }
  }
  return 0;
}
