#include "common/job/layer_set_components.h"

#include <array>

namespace qsweep {
namespace {

using Tensor = TensorDescription;

// A component's bias belongs to it; `bias` picks the biases of all parts.
template <Component kComponent>
bool Is(const Tensor& tensor) {
  return tensor.component == kComponent;
}

constexpr std::array<SelectorComponent, 19> kComponents = {{
    {"attn", true, [](const Tensor& t) { return IsAttention(t.component); }},
    {"mlp", true, [](const Tensor& t) { return IsMlp(t.component); }},
    {"norm", true, [](const Tensor& t) { return IsNorm(t.component); }},
    {"bias", true, [](const Tensor& t) { return t.bias; }},
    {"q", true, Is<Component::kQ>},
    {"k", true, Is<Component::kK>},
    {"v", true, Is<Component::kV>},
    {"qkv", true, Is<Component::kQkv>},
    {"o", true, Is<Component::kO>},
    {"gate", true, Is<Component::kGate>},
    {"up", true, Is<Component::kUp>},
    {"down", true, Is<Component::kDown>},
    {"norm1", true, Is<Component::kNorm1>},
    {"norm2", true, Is<Component::kNorm2>},
    {"embed", false,
     [](const Tensor& t) {
       return t.component == Component::kEmbedToken ||
              t.component == Component::kEmbedPosition;
     }},
    {"embed.token", false, Is<Component::kEmbedToken>},
    {"embed.pos", false, Is<Component::kEmbedPosition>},
    // A tied head is listed as embed.token: ResolveLayerSet sees to it.
    {"head", false, Is<Component::kHead>},
    {"norm.final", false, Is<Component::kFinalNorm>},
}};

}  // namespace

const SelectorComponent* FindSelectorComponent(absl::string_view name) {
  for (const SelectorComponent& component : kComponents) {
    if (name == component.name) {
      return &component;
    }
  }
  return nullptr;
}

std::vector<std::string> SelectorComponentNames() {
  std::vector<std::string> names;
  for (const SelectorComponent& component : kComponents) {
    names.emplace_back(component.name);
  }
  return names;
}

}  // namespace qsweep
