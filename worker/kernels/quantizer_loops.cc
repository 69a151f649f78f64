#include "worker/kernels/quantizer_loops.h"

#include <array>
#include <cstddef>

#include "worker/kernels/cpu_levels.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {
namespace {

struct Levels {
  std::array<const QuantizerLoops*, 3> loops = {};
  size_t count = 0;
};

const Levels& DetectLevels() {
  static const Levels kLevels = [] {
    Levels levels;
    levels.loops[levels.count++] = &QuantizerLoopsBaseline();
#if defined(__x86_64__)
    if (RunsAvx2Level()) {
      levels.loops[levels.count++] = &QuantizerLoopsAvx2();
    }
    if (RunsAvx512Level()) {
      levels.loops[levels.count++] = &QuantizerLoopsAvx512();
    }
#endif
    return levels;
  }();
  return kLevels;
}

}  // namespace

const QuantizerLoops& BestQuantizerLoops() {
  const Levels& levels = DetectLevels();
  return *levels.loops[levels.count - 1];
}

std::span<const QuantizerLoops* const> AvailableQuantizerLoops() {
  const Levels& levels = DetectLevels();
  return std::span(levels.loops).first(levels.count);
}

}  // namespace qsweep::kernels
