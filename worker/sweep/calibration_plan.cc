#include "worker/sweep/calibration_plan.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "common/job/configuration.h"

namespace qsweep {
namespace {

using Wanted = CalibrationStep::Wanted;

// One way through the layers. At each layer, what is missing and which weights
// lead on: equal pointers are equal weights.
struct Way {
  struct Layer {
    std::vector<Wanted> wanted;
    const StageVariant* variant = nullptr;
  };
  std::vector<Layer> layers;  // up to the last one that wants something
};

void Trim(Way& way) {
  while (!way.layers.empty() && way.layers.back().wanted.empty()) {
    way.layers.pop_back();
  }
}

// Ways that share their beginnings.
class Tree {
 public:
  void Add(const Way& way) {
    size_t at = 0;
    for (size_t layer = 0; layer < way.layers.size(); ++layer) {
      if (nodes_.empty()) {
        nodes_.emplace_back();
      }
      for (const Wanted& one : way.layers[layer].wanted) {
        std::vector<Wanted>& all = nodes_[at].wanted;
        if (std::ranges::find(all, one) == all.end()) {
          all.push_back(one);
        }
      }
      if (layer + 1 < way.layers.size()) {
        at = Child(at, way.layers[layer].variant);
      }
    }
  }

  void AppendTo(CalibrationPlan& plan) {
    if (nodes_.empty()) {
      return;
    }
    for (size_t n = nodes_.size(); n-- > 0;) {  // children before their parent
      CountStates(nodes_[n]);
    }
    const size_t first = plan.steps.size();
    Append(nodes_[0], /*slot=*/0, plan);
    plan.steps[first].begins = true;
    plan.num_slots = std::max(plan.num_slots, nodes_[0].states);
  }

 private:
  struct Node {
    int layer = 0;
    std::vector<Wanted> wanted;
    std::vector<std::pair<const StageVariant*, size_t>> children;
    int states = 1;  // alive at once in the walk from here on
  };

  size_t Child(size_t parent, const StageVariant* variant) {
    for (const auto& [known, child] : nodes_[parent].children) {
      if (known == variant) {
        return child;
      }
    }
    nodes_[parent].children.emplace_back(variant, nodes_.size());
    const int layer = nodes_[parent].layer + 1;
    nodes_.push_back({.layer = layer});
    return nodes_.size() - 1;
  }

  // The child that keeps most states alive goes last, in its parent's place.
  void CountStates(Node& node) {
    std::ranges::stable_sort(
        node.children, [this](const auto& a, const auto& b) {
          return nodes_[a.second].states < nodes_[b.second].states;
        });
    for (size_t c = 0; c < node.children.size(); ++c) {
      const int beside = c + 1 < node.children.size() ? 1 : 0;
      node.states = std::max(node.states,
                             beside + nodes_[node.children[c].second].states);
    }
  }

  // The subtree with its state in `slot`; slots from `slot` on are free.
  void Append(const Node& node, int slot, CalibrationPlan& plan) const {
    if (node.children.empty()) {
      plan.steps.push_back(
          {.layer = node.layer, .from = slot, .wanted = node.wanted});
    }
    for (size_t c = 0; c < node.children.size(); ++c) {
      const auto& [variant, child] = node.children[c];
      const int to = c + 1 < node.children.size() ? slot + 1 : slot;
      plan.steps.push_back(
          {.layer = node.layer,
           .from = slot,
           .wanted = c == 0 ? node.wanted : std::vector<Wanted>(),
           .variant = *variant,
           .to = to});
      Append(nodes_[child], to, plan);
    }
  }

  std::deque<Node> nodes_;  // the first is the root
};

class Planner {
 public:
  Planner(const ModelDescription& model, const SweepPlan& sweep, uint64_t texts,
          const CodesMissing& missing)
      : model_(model), sweep_(sweep), texts_(texts), missing_(missing) {}

  CalibrationPlan Plan() {
    CalibrationPlan plan;
    const auto append = [&plan](const Way& way) {
      Tree tree;
      tree.Add(way);
      tree.AppendTo(plan);
    };
    append(FpWay());
    for (const auto& [scheme, last] : LastLayers()) {
      append(QpathWay(scheme, last));
    }
    Tree tree;
    for (const TrieWord& word : sweep_.words) {
      tree.Add(ExactWay(word));
    }
    tree.AppendTo(plan);
    return plan;
  }

 private:
  bool Is(const std::optional<Scheme>& scheme, CalibrationMode mode) const {
    return scheme && scheme->calibration == mode &&
           scheme->calibration_texts == texts_;
  }

  const TensorDescription& TensorOf(size_t layer, size_t tensor) const {
    return model_
        .tensors[static_cast<size_t>(sweep_.layers[layer].tensors[tensor])];
  }

  bool Missing(size_t layer, size_t tensor, const Scheme& scheme) {
    const auto [place, added] = known_.try_emplace(
        {sweep_.layers[layer].tensors[tensor], scheme}, false);
    if (added) {
      place->second = missing_(TensorOf(layer, tensor), scheme);
    }
    return place->second;
  }

  // Schemes of a tensor over all configurations.
  std::set<Scheme> SchemesOf(size_t layer, size_t tensor,
                             CalibrationMode mode) const {
    std::set<Scheme> schemes;
    for (const StageVariant& variant : sweep_.layers[layer].variants) {
      if (Is(variant[tensor], mode)) {
        schemes.insert(*variant[tensor]);
      }
    }
    return schemes;
  }

  // Linear layers under the scheme, or none.
  const StageVariant* VariantOf(size_t layer,
                                const std::optional<Scheme>& scheme) {
    StageVariant& variant = variants_.emplace_back();
    for (size_t t = 0; t < sweep_.layers[layer].tensors.size(); ++t) {
      variant.push_back(
          InScope(Scope::kLinear, TensorOf(layer, t)) ? scheme : std::nullopt);
    }
    return &variant;
  }

  Way FpWay() {
    Way way;
    for (size_t layer = 0; layer < sweep_.layers.size(); ++layer) {
      Way::Layer& at = way.layers.emplace_back();
      at.variant = VariantOf(layer, std::nullopt);
      for (size_t t = 0; t < at.variant->size(); ++t) {
        for (const Scheme& scheme : SchemesOf(layer, t, CalibrationMode::kFp)) {
          if (Missing(layer, t, scheme)) {
            at.wanted.push_back({.tensor = t, .scheme = scheme});
          }
        }
      }
    }
    Trim(way);
    return way;
  }

  // Of the mode qpath, the last layer whose codes are missing.
  std::map<Scheme, size_t> LastLayers() {
    std::map<Scheme, size_t> last;
    for (size_t layer = 0; layer < sweep_.layers.size(); ++layer) {
      for (size_t t = 0; t < sweep_.layers[layer].tensors.size(); ++t) {
        for (const Scheme& scheme :
             SchemesOf(layer, t, CalibrationMode::kQpath)) {
          if (Missing(layer, t, scheme)) {
            last[scheme] = layer;
          }
        }
      }
    }
    return last;
  }

  // Every layer before is quantized under the same scheme, whoever needs it. So
  // is the way of a layer's own scheme, as int8's in `L9:int8` under gptq with
  // 4 bits: codes are named by the scheme alone and serve all forks, an
  // approximation that `exact` does not make.
  Way QpathWay(const Scheme& scheme, size_t last) {
    Way way;
    for (size_t layer = 0; layer <= last; ++layer) {
      Way::Layer& at = way.layers.emplace_back();
      at.variant = VariantOf(layer, scheme);
      AddMissing(layer, CalibrationMode::kQpath, at);
    }
    return way;
  }

  Way ExactWay(const TrieWord& word) {
    Way way;
    for (size_t layer = 0; layer < word.layers.size(); ++layer) {
      Way::Layer& at = way.layers.emplace_back();
      at.variant = &sweep_.layers[layer]
                        .variants[static_cast<size_t>(word.layers[layer])];
      AddMissing(layer, CalibrationMode::kExact, at);
    }
    Trim(way);
    return way;
  }

  void AddMissing(size_t layer, CalibrationMode mode, Way::Layer& at) {
    for (size_t t = 0; t < at.variant->size(); ++t) {
      const std::optional<Scheme>& scheme = (*at.variant)[t];
      if (Is(scheme, mode) && Missing(layer, t, *scheme)) {
        at.wanted.push_back({.tensor = t, .scheme = *scheme});
      }
    }
  }

  const ModelDescription& model_;
  const SweepPlan& sweep_;
  const uint64_t texts_;
  const CodesMissing& missing_;
  std::map<std::pair<int, Scheme>, bool> known_;
  std::deque<StageVariant> variants_;  // that no configuration has
};

}  // namespace

CalibrationPlan PlanCalibration(const ModelDescription& model,
                                const SweepPlan& sweep, uint64_t texts,
                                const CodesMissing& missing) {
  return Planner(model, sweep, texts, missing).Plan();
}

}  // namespace qsweep
