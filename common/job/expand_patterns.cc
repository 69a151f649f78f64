#include "common/job/expand_patterns.h"

#include <set>

#include "common/base/check.h"
#include "common/job/layer_set.h"

namespace qsweep {
namespace {

// How many layers a {protect: ...} pattern protects together.
int ProtectedAtOnce(const v1::LayerSetPattern& pattern) {
  if (pattern.protect() == "each") {
    return 1;
  }
  return pattern.protect() == "pairs" ? 2 : 3;
}

// All subsets of `size` layers, in lexicographic order.
void AppendSubsets(const std::vector<int>& layers, size_t first, int size,
                   std::set<int>& chosen, std::vector<std::string>& texts) {
  if (size == 0) {
    texts.push_back(FormatLayers(chosen));
    return;
  }
  for (size_t i = first; i < layers.size(); ++i) {
    chosen.insert(layers[i]);
    AppendSubsets(layers, i + 1, size - 1, chosen, texts);
    chosen.erase(layers[i]);
  }
}

}  // namespace

int64_t CountLayerSets(const v1::LayerSetPattern& pattern, int64_t layers) {
  switch (pattern.pattern_case()) {
    case v1::LayerSetPattern::kProtect:
      switch (ProtectedAtOnce(pattern)) {
        case 1:
          return layers;
        case 2:
          return layers * (layers - 1) / 2;
        default:  // at most 10,000 layers: no overflow
          return layers * (layers - 1) * (layers - 2) / 6;
      }
    case v1::LayerSetPattern::kQuantize:
      return layers;
    default:
      return 1;
  }
}

std::vector<std::string> LayerSetTexts(const v1::LayerSetPattern& pattern,
                                       const std::vector<int>& tried,
                                       int num_layers) {
  std::vector<std::string> texts;
  std::set<int> chosen;
  switch (pattern.pattern_case()) {
    case v1::LayerSetPattern::kProtect:
      AppendSubsets(tried, 0, ProtectedAtOnce(pattern), chosen, texts);
      return texts;
    case v1::LayerSetPattern::kQuantize:
      for (const int quantized : tried) {
        chosen.clear();
        for (int layer = 0; layer < num_layers; ++layer) {
          if (layer != quantized) {
            chosen.insert(layer);
          }
        }
        texts.push_back(FormatLayers(chosen));
      }
      return texts;
    default:
      QSWEEP_CHECK(pattern.pattern_case() == v1::LayerSetPattern::kLiteral);
      return {pattern.literal()};
  }
}

}  // namespace qsweep
