// GGUF files. The input: one.
#include <vector>

#include "tests/fuzz/input.h"
#include "tests/fuzz/model_checks.h"
#include "worker/model/config_reader.h"
#include "worker/model/gguf.h"

namespace qsweep::fuzz {
namespace {

void CheckGguf(const std::vector<uint8_t>& bytes) {
  const auto gguf = ParseGguf(bytes, "m.gguf");
  if (!OkOrNamed(gguf)) {
    return;
  }
  for (const StoredTensor& tensor : gguf->tensors) {
    CheckTensor(tensor, bytes);
  }
  OkOrNamed(ReadGgufConfig(*gguf, "m.gguf"));
  static const Scratch kFolder;
  CheckCheckpoint(
      kFolder.Write("m.gguf", Input(bytes.data(), bytes.size()).Rest()));
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qsweep::fuzz::CheckGguf({data, data + size});
  return 0;
}
