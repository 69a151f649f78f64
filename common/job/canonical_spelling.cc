#include "common/job/canonical_spelling.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/job/layer_set.h"
#include "common/job/layer_set_components.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

constexpr Scope kScopes[] = {
    Scope::kLinear, Scope::kP5Weights, Scope::kP5All,      Scope::kP5Final,
    Scope::kGpu,    Scope::kGpu001,    Scope::kFairnessCli};

// The scheme of most parameters; the smallest of several.
Scheme MainScheme(const ModelDescription& model,
                  const Configuration& configuration) {
  std::map<Scheme, int64_t> elements;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (configuration.schemes[i]) {
      elements[configuration.schemes[i]->InQuantizer()] +=
          model.tensors[i].num_elements();
    }
  }
  return std::max_element(
             elements.begin(), elements.end(),
             [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

// What is kept by magnitude, in all tensors that can.
int KeptMillionths(const Configuration& configuration) {
  int kept = 0;
  for (const std::optional<Scheme>& scheme : configuration.schemes) {
    kept = std::max(kept, scheme ? scheme->kept_millionths : 0);
  }
  return kept;
}

// Of the scopes that have every quantized tensor, the first with the fewest
// others.
Scope SmallestScope(const ModelDescription& model,
                    const Configuration& configuration) {
  std::optional<std::pair<size_t, Scope>> best;
  for (const Scope scope : kScopes) {
    bool covers = true;
    size_t left_out = 0;
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      const bool inside = InScope(scope, model.tensors[i]);
      covers = covers && (inside || !configuration.schemes[i]);
      left_out += inside && !configuration.schemes[i] ? 1 : 0;
    }
    if (covers && (!best || left_out < best->first)) {
      best = std::pair(left_out, scope);
    }
  }
  return best ? best->second : Scope::kP5All;
}

// Finds selectors for the tensors whose bits are not the quantizer's.
class Selectors {
 public:
  Selectors(const ModelDescription& model, const Configuration& configuration,
            const Quantizer& quantizer)
      : model_(model), done_(model.tensors.size(), true) {
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      const std::optional<Scheme>& scheme = configuration.schemes[i];
      in_scope_.push_back(InScope(quantizer.scope, model.tensors[i]));
      bits_.push_back(scheme ? scheme->bits : 0);
      done_[i] = !in_scope_[i] ||
                 (scheme && scheme->InQuantizer() == quantizer.scheme);
      left_ += done_[i] ? 0 : 1;
    }
  }

  // Whole layers, then components of a layer, then what is in no layer.
  std::string Find() {
    for (int layer = 0; layer < model_.layers; ++layer) {
      Try(absl::StrCat("L", layer), [layer](const TensorDescription& tensor) {
        return tensor.layer == layer;
      });
    }
    for (const std::string& name : SelectorComponentNames()) {
      const SelectorComponent& component = *FindSelectorComponent(name);
      if (!component.in_blocks) {
        Try(name, component.matches);
        continue;
      }
      for (int layer = 0; layer < model_.layers; ++layer) {
        Try(absl::StrCat(name, "@L", layer),
            [&](const TensorDescription& tensor) {
              return tensor.layer == layer && component.matches(tensor);
            });
      }
    }
    std::vector<std::string> parts;
    for (const auto& [rank, items] : items_of_rank_) {
      parts.insert(parts.end(), items.begin(), items.end());
    }
    return parts.empty() ? "none" : absl::StrJoin(parts, "+");
  }

 private:
  // Takes the selector when all it names in scope has the same bits, and some
  // of it is not named yet.
  template <typename Matches>
  void Try(const std::string& selector, const Matches& matches) {
    if (left_ == 0) {
      return;
    }
    std::vector<size_t> named;
    bool news = false;
    for (size_t i = 0; i < model_.tensors.size(); ++i) {
      if (in_scope_[i] && matches(model_.tensors[i])) {
        named.push_back(i);
        news = news || !done_[i];
      }
    }
    if (!news || std::ranges::any_of(named, [&](size_t i) {
          return bits_[i] != bits_[named.front()];
        })) {
      return;
    }
    const int bits = bits_[named.front()];
    items_of_rank_[bits == 0 ? -16 : -bits].push_back(
        bits == 0 ? selector : absl::StrCat(selector, ":int", bits));
    for (const size_t i : named) {
      left_ -= done_[i] ? 0 : 1;
      done_[i] = true;
    }
  }

  const ModelDescription& model_;
  std::vector<bool> in_scope_;
  std::vector<int> bits_;   // 0: full precision
  std::vector<bool> done_;  // named, or nothing to say of it
  size_t left_ = 0;         // not done
  // By precision, the highest first: one run of each.
  std::map<int, std::vector<std::string>> items_of_rank_;
};

}  // namespace

Spelling CanonicalSpelling(const ModelDescription& model,
                           const Configuration& configuration) {
  if (configuration.baseline()) {
    return {"fp", "all"};
  }
  const Scheme scheme = MainScheme(model, configuration);
  const Quantizer quantizer = {
      .scheme = scheme,
      .scope = scheme.method == Method::kCheckpoint
                   ? Scope::kP5All
                   : SmallestScope(model, configuration)};
  std::string text = Selectors(model, configuration, quantizer).Find();
  if (const int kept = KeptMillionths(configuration); kept != 0) {
    text = absl::StrCat(text == "none" ? "" : text + "+", KeptShareText(kept));
  }
  const auto layer_set = LayerSet::Parse(text);
  if (layer_set.ok()) {
    const auto resolved = ResolveLayerSet(*layer_set, model);
    if (resolved.ok() && resolved->text == configuration.layer_set_text &&
        FormatQuantizer(quantizer) == configuration.quantizer_text) {
      return {configuration.quantizer_text, configuration.layer_set_text};
    }
    const auto made =
        MakeConfiguration(model, quantizer, *layer_set, configuration.compute);
    if (made.ok() && made->digest == configuration.digest) {
      return {made->quantizer_text, made->layer_set_text};
    }
  }
  // Part of a component is quantized, which no selector can say; nor can a job.
  return {configuration.quantizer_text, configuration.layer_set_text};
}

}  // namespace qsweep
