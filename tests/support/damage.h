#ifndef QSWEEP_TESTS_SUPPORT_DAMAGE_H_
#define QSWEEP_TESTS_SUPPORT_DAMAGE_H_

#include <cstdint>
#include <string>

#include "common/base/random.h"

namespace qsweep::testing {

// `whole` with one to three damages: a byte changed, a piece removed, repeated
// or put elsewhere, or its end cut off. For parsers, which must refuse or read
// whatever comes; the sanitizers see what they touch.
inline std::string Damaged(const std::string& whole, Random& random) {
  std::string text = whole;
  for (uint64_t i = 1 + random.Below(3); i > 0 && !text.empty(); --i) {
    const size_t at = random.Below(text.size());
    const std::string piece = text.substr(at, 1 + random.Below(12));
    switch (random.Below(6)) {
      case 0:
        text[at] = static_cast<char>(random.Below(256));
        break;
      case 1:  // a small step: another letter, digit or mark
        text[at] = static_cast<char>(text[at] ^ (1 << random.Below(7)));
        break;
      case 2:
        text.erase(at, piece.size());
        break;
      case 3:
        text.insert(at, piece);
        break;
      case 4:
        text.insert(random.Below(text.size()), piece);
        break;
      default:
        if (random.Below(8) == 0) {
          text.resize(at);
        }
        break;
    }
  }
  return text;
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_DAMAGE_H_
