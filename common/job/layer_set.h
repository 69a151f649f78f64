#ifndef QSWEEP_COMMON_JOB_LAYER_SET_H_
#define QSWEEP_COMMON_JOB_LAYER_SET_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/job/model_description.h"

namespace qsweep {

// Which layers or components keep which precision, in the selector language:
//   none  all  L0+L9+L11  L0-3  L-1  L75%  even  odd  attn@L0  mlp@L3-5  q@L1
//   bias  embed embed.token  head  norm  norm.final  L0+L11+L9:int8  L0+top5%
// Items joined by "+"; a ":intN" suffix binds to its item and means N bits
// instead of full precision; "top5%" keeps the largest 5 % of all weights.
// Grammar and meaning: docs/reference/layer-sets.md.
// Immutable value. It is the text's meaning before a model is known:
// percentages and negative layers are resolved by ResolveLayerSet.
class LayerSet {
 public:
  // INVALID_ARGUMENT QS1010 (grammar, with the position), QS1012 (unknown
  // component), QS1042 (bits outside 2-8).
  static absl::StatusOr<LayerSet> Parse(absl::string_view text);

  // The items in the order written, each in its one spelling, then what is kept
  // by magnitude: "L0+mlp@L3-5+top0.5%".
  const std::string& text() const { return text_; }

  struct Layers {  // a set of layers, unresolved
    enum class Kind {
      kEvery,
      kRange,
      kPercent,
      kEven,
      kOdd
    } kind = Kind::kEvery;
    int first = 0;  // kRange: inclusive; negative counts from the end
    int last = 0;
    int percent = 0;
  };
  struct Item {
    std::string component;    // "" (the whole layer), "attn", "q", "embed", ...
    Layers layers;            // ignored for components outside the blocks
    std::optional<int> bits;  // nothing: full precision

    std::string text() const;
  };
  const std::vector<Item>& items() const { return items_; }  // empty: none
  bool all() const { return all_; }
  // Of all weights of the model, the share that is kept by magnitude; 0: none.
  int kept_millionths() const { return kept_millionths_; }

 private:
  std::string text_ = "none";
  std::vector<Item> items_;
  bool all_ = false;
  int kept_millionths_ = 0;
};

// What a layer set does to each tensor of one model.
struct ResolvedLayerSet {
  // With absolute layers, joined and sorted where the order means nothing:
  // "L0-1+L22+L29", "attn@L0", "L0+L9:int8", "L0+top5%". Parses back to the
  // same choices.
  std::string text;
  // Parallel to model.tensors. Full precision is kProtected; bits: mixed
  // precision.
  enum class Choice { kQuantize, kProtected, kBits };
  struct TensorChoice {
    Choice choice = Choice::kQuantize;
    int bits = 0;  // kBits only
  };
  std::vector<TensorChoice> tensors;
  std::set<int> layers;  // protected as a whole
  // As of the LayerSet; 0 where the model is so small that it is no weight.
  int kept_millionths = 0;
};

// Later items win over earlier ones on the same tensor. INVALID_ARGUMENT:
// QS1011 a layer out of range ("L99 of a model with layers L0-L29"), QS1012 a
// component the model lacks.
absl::StatusOr<ResolvedLayerSet> ResolveLayerSet(const LayerSet& layer_set,
                                                 const ModelDescription& model);

// Whether layer sets keep the tensor's largest weights, by its name: all but
// biases.
bool IsWeightNamed(const TensorDescription& tensor);

// How many weights that share of the model's is, rounded down: of the tensors
// that IsWeightNamed says. As many as are kept, but for equal ones.
int64_t NumKept(const ModelDescription& model, int kept_millionths);

// "0-7", "all", "0,3,5-9" -> sorted layers, each once. QS1010, QS1011.
absl::StatusOr<std::vector<int>> ParseLayerRange(absl::string_view text,
                                                 int num_layers);

// {0, 1, 3} -> "L0-1+L3"; empty -> "none".
std::string FormatLayers(const std::set<int>& layers);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_LAYER_SET_H_
