#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/layer_set.h"
#include "common/job/layer_set_components.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

using Choice = ResolvedLayerSet::Choice;

constexpr int kFullPrecision = 0;  // of ResolvedItem::bits

// An item whose layers are absolute.
struct ResolvedItem {
  const SelectorComponent* component = nullptr;  // nullptr: whole layers
  bool every = false;  // no "@": outside the blocks too, as norm and bias
  std::set<int> layers;
  int bits = kFullPrecision;

  bool Matches(const TensorDescription& tensor) const {
    if (component != nullptr && !component->matches(tensor)) {
      return false;
    }
    return every || layers.count(tensor.layer) > 0;
  }
};

absl::Status OutOfRange(absl::string_view written,
                        const ModelDescription& model) {
  return MakeError(
      kLayerOutOfRange,
      absl::StrCat(written, " is not a layer of ",
                   model.name.empty() ? "the model" : model.name,
                   ", which has L0-", model.layers - 1),
      "",
      absl::StrCat("Use L0 to L", model.layers - 1, ", or L-1 to L-",
                   model.layers, " from the end."));
}

// Negative layers count from the end.
absl::StatusOr<int> ResolveIndex(int index, const ModelDescription& model) {
  const int layer = index < 0 ? index + model.layers : index;
  if (layer < 0 || layer >= model.layers) {
    return OutOfRange(absl::StrCat("L", index), model);
  }
  return layer;
}

absl::StatusOr<std::set<int>> ResolveLayers(const LayerSet::Layers& layers,
                                            const ModelDescription& model) {
  using Kind = LayerSet::Layers::Kind;
  std::set<int> resolved;
  switch (layers.kind) {
    case Kind::kEvery:
    case Kind::kEven:
    case Kind::kOdd:
      for (int layer = layers.kind == Kind::kOdd ? 1 : 0; layer < model.layers;
           layer += layers.kind == Kind::kEvery ? 1 : 2) {
        resolved.insert(layer);
      }
      return resolved;
    case Kind::kPercent:
      resolved.insert(static_cast<int>(std::min<int64_t>(
          int64_t{layers.percent} * model.layers / 100, model.layers - 1)));
      return resolved;
    case Kind::kRange:
      break;
  }
  QSWEEP_ASSIGN_OR_RETURN(const int first, ResolveIndex(layers.first, model));
  QSWEEP_ASSIGN_OR_RETURN(const int last, ResolveIndex(layers.last, model));
  if (first > last) {
    return MakeError(
        kLayerOutOfRange,
        absl::StrCat("L", layers.first, "-", layers.last,
                     " is empty on a model with ", model.layers, " layers"));
  }
  for (int layer = first; layer <= last; ++layer) {
    resolved.insert(layer);
  }
  return resolved;
}

absl::StatusOr<ResolvedItem> ResolveItem(const LayerSet::Item& item,
                                         const ModelDescription& model) {
  ResolvedItem resolved;
  resolved.bits = item.bits.value_or(kFullPrecision);
  if (!item.component.empty()) {
    // Naming a tied head protects the tensor it shares with the embedding.
    resolved.component = FindSelectorComponent(
        item.component == "head" && model.tied_head ? "embed.token"
                                                    : item.component);
    QSWEEP_CHECK(resolved.component != nullptr);
    resolved.every = item.layers.kind == LayerSet::Layers::Kind::kEvery;
  }
  QSWEEP_ASSIGN_OR_RETURN(resolved.layers, ResolveLayers(item.layers, model));
  // A model without biases keeps what it does not have: no error.
  const bool may_be_empty =
      resolved.component == nullptr || item.component == "bias";
  if (!may_be_empty && std::none_of(model.tensors.begin(), model.tensors.end(),
                                    resolved.component->matches)) {
    std::set<std::string> present;
    for (const std::string& name : SelectorComponentNames()) {
      if (std::any_of(model.tensors.begin(), model.tensors.end(),
                      FindSelectorComponent(name)->matches)) {
        present.insert(name);
      }
    }
    return MakeError(
        kUnknownComponent,
        absl::StrCat(model.name.empty() ? "the model" : model.name, " (",
                     model.family, ") has no ", item.component),
        "", absl::StrCat("It has ", absl::StrJoin(present, ", "), "."));
  }
  return resolved;
}

std::string Suffix(int bits) {
  return bits == kFullPrecision ? "" : absl::StrCat(":int", bits);
}

// "L0-1+L5", each range with the suffix of bits.
std::string FormatWholeLayers(const std::set<int>& layers, int bits) {
  std::vector<std::string> parts = absl::StrSplit(FormatLayers(layers), '+');
  for (std::string& part : parts) {
    part += Suffix(bits);
  }
  return absl::StrJoin(parts, "+");
}

// Only whole layers: the last choice of each layer, full precision first.
std::string FormatLayerChoices(const std::vector<ResolvedItem>& items) {
  std::map<int, int> bits_of_layer;
  for (const ResolvedItem& item : items) {
    for (const int layer : item.layers) {
      bits_of_layer[layer] = item.bits;
    }
  }
  std::map<int, std::set<int>> layers_of_rank;  // rank: -bits, fp lowest
  for (const auto& [layer, bits] : bits_of_layer) {
    layers_of_rank[bits == kFullPrecision ? -16 : -bits].insert(layer);
  }
  std::vector<std::string> parts;
  for (const auto& [rank, layers] : layers_of_rank) {
    parts.push_back(
        FormatWholeLayers(layers, rank == -16 ? kFullPrecision : -rank));
  }
  // "odd" of a single layer is nothing.
  return parts.empty() ? "none" : absl::StrJoin(parts, "+");
}

// The items [first, last) have one precision, so their order means nothing.
// Empty: they name no layer.
std::string FormatRun(const ResolvedItem* first, const ResolvedItem* last,
                      int num_layers) {
  std::set<int> whole;
  std::map<std::string, ResolvedItem> by_component;
  for (const ResolvedItem* item = first; item != last; ++item) {
    if (item->component == nullptr) {
      whole.insert(item->layers.begin(), item->layers.end());
      continue;
    }
    ResolvedItem& merged = by_component[item->component->name];
    merged.every |= item->every;
    merged.layers.insert(item->layers.begin(), item->layers.end());
  }
  std::vector<std::string> parts;
  if (!whole.empty()) {
    parts.push_back(FormatWholeLayers(whole, first->bits));
  }
  for (const std::string& name : SelectorComponentNames()) {
    const auto found = by_component.find(name);
    if (found == by_component.end()) {
      continue;
    }
    ResolvedItem& item = found->second;
    // "norm" and "bias" reach outside the blocks; the others do not.
    const bool is_all = static_cast<int>(item.layers.size()) == num_layers &&
                        name != "norm" && name != "bias";
    if (item.every || is_all) {
      parts.push_back(name + Suffix(first->bits));
      continue;
    }
    for (const int layer : whole) {
      item.layers.erase(layer);
    }
    if (item.layers.empty()) {
      continue;
    }
    for (const absl::string_view range :
         absl::StrSplit(FormatLayers(item.layers), '+')) {
      parts.push_back(absl::StrCat(name, "@", range, Suffix(first->bits)));
    }
  }
  return absl::StrJoin(parts, "+");
}

std::string FormatResolved(const std::vector<ResolvedItem>& items,
                           int num_layers) {
  if (items.empty()) {
    return "none";
  }
  if (std::all_of(items.begin(), items.end(), [](const ResolvedItem& item) {
        return item.component == nullptr;
      })) {
    return FormatLayerChoices(items);
  }
  std::vector<std::string> runs;
  const ResolvedItem* const end = items.data() + items.size();
  for (const ResolvedItem* first = items.data(); first != end;) {
    const ResolvedItem* last = first;
    while (last != end && last->bits == first->bits) {
      ++last;
    }
    if (std::string run = FormatRun(first, last, num_layers); !run.empty()) {
      runs.push_back(std::move(run));
    }
    first = last;
  }
  return runs.empty() ? "none" : absl::StrJoin(runs, "+");
}

std::set<int> WholeLayers(const ModelDescription& model,
                          const ResolvedLayerSet& resolved) {
  std::set<int> seen;
  std::set<int> broken;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const int layer = model.tensors[i].layer;
    seen.insert(layer);
    if (resolved.tensors[i].choice != Choice::kProtected) {
      broken.insert(layer);
    }
  }
  std::set<int> whole;
  for (const int layer : seen) {
    if (layer >= 0 && broken.count(layer) == 0) {
      whole.insert(layer);
    }
  }
  return whole;
}

std::vector<int> Chosen(const std::vector<bool>& chosen) {
  std::vector<int> layers;
  for (size_t layer = 0; layer < chosen.size(); ++layer) {
    if (chosen[layer]) {
      layers.push_back(static_cast<int>(layer));
    }
  }
  return layers;
}

}  // namespace

bool IsWeightNamed(const TensorDescription& tensor) {
  return absl::StrContains(tensor.name, "weight");
}

int64_t NumKept(const ModelDescription& model, int kept_millionths) {
  constexpr int64_t kMillion = 1'000'000;
  int64_t weights = 0;
  for (const TensorDescription& tensor : model.tensors) {
    weights += IsWeightNamed(tensor) ? tensor.num_elements() : 0;
  }
  return weights / kMillion * kept_millionths +
         weights % kMillion * kept_millionths / kMillion;
}

absl::StatusOr<ResolvedLayerSet> ResolveLayerSet(
    const LayerSet& layer_set, const ModelDescription& model) {
  ResolvedLayerSet resolved;
  resolved.tensors.resize(model.tensors.size());
  if (layer_set.all()) {
    resolved.text = "all";
    for (ResolvedLayerSet::TensorChoice& choice : resolved.tensors) {
      choice.choice = Choice::kProtected;
    }
    resolved.layers = WholeLayers(model, resolved);
    return resolved;
  }
  std::vector<ResolvedItem> items;
  for (const LayerSet::Item& item : layer_set.items()) {
    QSWEEP_ASSIGN_OR_RETURN(ResolvedItem next, ResolveItem(item, model));
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      if (next.Matches(model.tensors[i])) {
        resolved.tensors[i] =
            next.bits == kFullPrecision
                ? ResolvedLayerSet::TensorChoice{Choice::kProtected, 0}
                : ResolvedLayerSet::TensorChoice{Choice::kBits, next.bits};
      }
    }
    items.push_back(std::move(next));
  }
  resolved.text = FormatResolved(items, model.layers);
  if (NumKept(model, layer_set.kept_millionths()) > 0) {
    resolved.kept_millionths = layer_set.kept_millionths();
    const std::string kept = KeptShareText(resolved.kept_millionths);
    resolved.text =
        resolved.text == "none" ? kept : absl::StrCat(resolved.text, "+", kept);
  }
  resolved.layers = WholeLayers(model, resolved);
  return resolved;
}

absl::StatusOr<std::vector<int>> ParseLayerRange(absl::string_view text,
                                                 int num_layers) {
  std::vector<bool> chosen(static_cast<size_t>(num_layers));
  if (absl::StripAsciiWhitespace(text) == "all") {
    chosen.flip();
    return Chosen(chosen);
  }
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool single = ends.first.size() == part.size();
    int first = 0;
    int last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) ||
        !absl::SimpleAtoi(single ? ends.first : ends.second, &last) ||
        first < 0 || last < first) {
      return MakeError(kBadSelector,
                       absl::StrCat("\"", part, "\" is not a range of layers"),
                       "", "Write \"all\", or numbers like 0,3,5-9.");
    }
    if (last >= num_layers) {
      return MakeError(
          kLayerOutOfRange,
          absl::StrCat("layer ", last, " of a model with layers 0-",
                       num_layers - 1));
    }
    std::fill(chosen.begin() + first, chosen.begin() + last + 1, true);
  }
  return Chosen(chosen);
}

}  // namespace qsweep
