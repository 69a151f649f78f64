#ifndef QSWEEP_TESTS_FUZZ_MODEL_CHECKS_H_
#define QSWEEP_TESTS_FUZZ_MODEL_CHECKS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/fuzz/expect.h"
#include "tests/fuzz/scratch.h"
#include "worker/model/checkpoint.h"
#include "worker/model/tensor_layout.h"
#include "worker/model/tensor_type.h"

namespace qsweep::fuzz {

// A tensor a reader has let through lies in the file, and all of it can be
// read.
inline void CheckTensor(const StoredTensor& tensor,
                        std::span<const uint8_t> file) {
  const std::span<const uint8_t> data = tensor.data;
  Expect(
      data.empty() || (data.data() >= file.data() &&
                       data.data() + data.size() <= file.data() + file.size()),
      "a tensor outside its file");
  const auto bytes = StoredBytes(tensor.shape, tensor.type);
  Expect(bytes && *bytes == data.size(), "a tensor of another size");
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  Dequantize(tensor.type, data, values);
}

inline void CheckTokenizer(const Tokenizer& tokenizer, absl::string_view text) {
  for (const int32_t id : tokenizer.Encode(text)) {
    Expect(id >= 0, "a negative id");
    tokenizer.TokenBytes(id);
  }
  tokenizer.EncodeWithSpecial(text);
}

// A checkpoint that opens can be described and read whole.
inline void CheckCheckpoint(const std::string& path) {
  const auto checkpoint = Checkpoint::Open(path);
  if (!OkOrNamed(checkpoint)) {
    return;
  }
  CheckTokenizer((*checkpoint)->tokenizer(), "It\u2019s 12 o'clock.\n");
  const auto description = (*checkpoint)->Describe("");
  if (!OkOrNamed(description)) {
    return;
  }
  ExpectNamed(ValidateModelDescription(*description));
  for (const TensorDescription& tensor : description->tensors) {
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    ExpectNamed((*checkpoint)->ReadTensor(tensor.name, values));
  }
}

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_MODEL_CHECKS_H_
