#ifndef QSWEEP_TESTS_FUZZ_INPUT_H_
#define QSWEEP_TESTS_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"

namespace qsweep::fuzz {

// Values from the bytes of a fuzzer: zeros when those are used up, so a program
// of operations ends when empty() does. (clang's FuzzedDataProvider is not at
// hand where g++ builds the replay.)
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return position_ == size_; }
  uint8_t Byte() { return empty() ? 0 : data_[position_++]; }
  bool Bool() { return (Byte() & 1) != 0; }
  // In [0, bound), bound > 0; a byte where that is enough.
  uint64_t Below(uint64_t bound) {
    uint64_t value = Byte();
    for (uint64_t reach = 256; reach < bound && reach < (uint64_t{1} << 56);
         reach *= 256) {
      value = value * 256 + Byte();
    }
    return value % bound;
  }
  // Small ones, powers of two, their neighbours, and any.
  uint64_t Number() {
    const uint8_t kind = Byte();
    if (kind < 128) {
      return kind % 16;
    }
    if (kind < 224) {
      return (uint64_t{1} << (kind % 64)) - (kind < 176 ? 1 : 0);
    }
    return Below(~uint64_t{0});
  }
  std::string Text(size_t most) {
    std::string text(Below(most + 1), '\0');
    for (char& c : text) {
      c = static_cast<char>(Byte());
    }
    return text;
  }
  std::string Rest() {
    std::string rest;
    while (!empty()) {
      rest.push_back(static_cast<char>(Byte()));
    }
    return rest;
  }

 private:
  const uint8_t* data_;
  const size_t size_;
  size_t position_ = 0;
};

// The texts of an input that holds several, separated by byte 1: none of the
// languages read here has a use for it, and git takes the file for a text.
inline std::vector<std::string> Texts(const uint8_t* data, size_t size) {
  // An own string: of a null pointer StrSplit makes no text, not an empty one.
  const std::string text(data, data + size);
  return absl::StrSplit(text, '\x01');
}

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_INPUT_H_
