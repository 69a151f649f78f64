// Hugging Face directories. The input: config.json, byte 1, tokenizer.json,
// byte 1, model.safetensors.
#include <algorithm>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/job/model_description_json.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/model_checks.h"
#include "worker/model/config_reader.h"
#include "worker/model/safetensors.h"

namespace qsweep::fuzz {
namespace {

// The part before the next byte 1; the rest stays.
std::string Take(absl::string_view& bytes) {
  const size_t end = bytes.find('\x01');
  std::string part(bytes.substr(0, end));
  bytes.remove_prefix(std::min(bytes.size(), part.size() + 1));
  return part;
}

void CheckDirectory(absl::string_view input) {
  static const Scratch kFolder;
  const std::string config = Take(input);
  const std::string tokenizer = Take(input);
  kFolder.Write("config.json", config);
  kFolder.Write("tokenizer.json", tokenizer);
  kFolder.Write("model.safetensors", input);
  OkOrNamed(ReadConfigJson(config, "config.json"));
  OkOrNamed(ParseSafetensorsIndex(config, "model.safetensors.index.json"));
  const auto description = ParseModelDescriptionJson(config);
  if (OkOrNamed(description)) {
    const auto again =
        ParseModelDescriptionJson(FormatModelDescriptionJson(*description));
    Expect(again.ok() && again->digest == description->digest,
           "a description is not what its text parses to");
  }
  // A copy, of the size of the bytes alone: what is read after it is seen.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  const auto tensors = ParseSafetensors(bytes, "model.safetensors");
  if (OkOrNamed(tensors)) {
    for (const StoredTensor& tensor : *tensors) {
      CheckTensor(tensor, bytes);
    }
  }
  CheckCheckpoint(kFolder.path());
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  [[maybe_unused]] static const bool kQuiet = [] {
    qsweep::SilenceLog();  // it warns of zero points
    return true;
  }();
  qsweep::fuzz::CheckDirectory(qsweep::fuzz::Input(data, size).Rest());
  return 0;
}
