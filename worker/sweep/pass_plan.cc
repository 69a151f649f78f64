#include "worker/sweep/pass_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace qsweep {
namespace {

constexpr int64_t kFloat = sizeof(float);

// The final norm is read and written, the head reads.
constexpr int64_t kUsesOfLeaf = 3;
constexpr int64_t kUsesOfCopy = 2;

int64_t StageBytes(const ModelDescription& model, const Stage& stage,
                   int64_t readings, int64_t variants) {
  int64_t bytes = 0;
  for (const int index : stage.tensors) {
    const TensorDescription& tensor = model.tensors[static_cast<size_t>(index)];
    bytes += readings * tensor.stored_bytes() +
             variants * tensor.num_elements() * kFloat;
  }
  return bytes;
}

// Documents of at most so many rows together that `fits` holds, or nothing
// where one alone does not fit.
template <typename Fits>
std::optional<std::vector<std::vector<size_t>>> Cut(
    std::span<const int64_t> document_rows, const Fits& fits) {
  std::vector<std::vector<size_t>> passes;
  int64_t rows = 0;
  for (size_t d = 0; d < document_rows.size(); ++d) {
    if (document_rows[d] == 0) {
      continue;
    }
    if (passes.empty() || !fits(rows + document_rows[d])) {
      if (!fits(document_rows[d])) {
        return std::nullopt;
      }
      passes.emplace_back();
      rows = 0;
    }
    passes.back().push_back(d);
    rows += document_rows[d];
  }
  return passes;
}

}  // namespace

std::vector<int64_t> StateUses(const SweepPlan& plan, bool naive) {
  const auto layers = static_cast<int64_t>(plan.layers.size());
  const auto words = static_cast<int64_t>(plan.words.size());
  if (naive) {  // the baseline's slot is read by each, the other filled by each
    return {1 + 2 * layers + words + kUsesOfLeaf,
            words * (1 + 2 * layers + kUsesOfLeaf)};
  }
  std::vector<int64_t> uses(static_cast<size_t>(plan.trie.num_slots), 0);
  for (size_t slot = 0; slot < plan.trie.roots.size(); ++slot) {
    ++uses[slot];
  }
  for (const std::vector<TrieGroup>& layer : plan.trie.layers) {
    for (const TrieGroup& group : layer) {
      for (const TrieEdge& edge : group.edges) {
        ++uses[static_cast<size_t>(edge.from)];
        ++uses[static_cast<size_t>(edge.to)];
      }
    }
  }
  std::map<int, std::set<int>> norms;  // of each leaf's slot
  for (const SweepPlan::Leaf& leaf : plan.leaves) {
    norms[leaf.slot].insert(leaf.final_norm_variant);
  }
  for (const auto& [slot, variants] : norms) {
    uses[static_cast<size_t>(slot)] += kUsesOfLeaf;
    uses.insert(uses.end(), variants.size() - 1, kUsesOfCopy);
  }
  return uses;
}

int64_t WeightBytesPerPass(const ModelDescription& model, const SweepPlan& plan,
                           bool naive) {
  const auto words = static_cast<int64_t>(plan.words.size());
  int64_t bytes = 0;
  const auto add = [&](const Stage& stage) {
    const auto variants = static_cast<int64_t>(stage.variants.size());
    bytes += StageBytes(model, stage, 1, variants);
  };
  add(plan.embedding);
  add(plan.head);
  for (const Stage& layer : plan.layers) {
    if (naive) {
      bytes += StageBytes(model, layer, words, words);
    } else {
      add(layer);
    }
  }
  return bytes;
}

int64_t StateBytes(const PassLimits& limits, int64_t rows) {
  return (rows + limits.row_step - 1) / limits.row_step * limits.row_step *
         limits.state_row;
}

std::optional<PassPlan> PlanPasses(std::span<const int64_t> document_rows,
                                   std::span<const int64_t> uses,
                                   const PassLimits& limits) {
  std::vector<size_t> by_use(uses.size());  // the most used first
  std::iota(by_use.begin(), by_use.end(), size_t{0});
  std::ranges::stable_sort(
      by_use, [&](size_t a, size_t b) { return uses[a] > uses[b]; });
  const auto total_rows =
      std::accumulate(document_rows.begin(), document_rows.end(), int64_t{0});
  std::optional<PassPlan> best;
  size_t best_resident = 0;
  int64_t least = 0;
  int64_t uses_in_file = 0;
  for (size_t resident = uses.size();; --resident) {
    const auto in_memory = static_cast<int64_t>(resident);
    const auto in_file = static_cast<int64_t>(uses.size()) - in_memory;
    std::optional<std::vector<std::vector<size_t>>> passes =
        Cut(document_rows, [&](int64_t rows) {
          const int64_t state = StateBytes(limits, rows);
          return in_memory * state + rows * limits.other_row <= limits.memory &&
                 in_file * state <= limits.file_room;
        });
    if (passes) {
      const auto extra = static_cast<int64_t>(passes->size()) - 1;
      const int64_t cost = std::max<int64_t>(extra, 0) * limits.weights +
                           uses_in_file * total_rows * limits.state_row;
      if (!best || cost < least) {
        best = PassPlan{.passes = *std::move(passes)};
        best_resident = resident;
        least = cost;
      }
    }
    if (resident == 0 || (best && least == 0)) {
      break;
    }
    uses_in_file += uses[by_use[resident - 1]];
  }
  if (!best) {
    return std::nullopt;
  }
  best->in_file.resize(uses.size());
  for (size_t i = best_resident; i < by_use.size(); ++i) {
    best->in_file[by_use[i]] = true;
  }
  for (const std::vector<size_t>& pass : best->passes) {
    int64_t rows = 0;
    for (const size_t document : pass) {
      rows += document_rows[document];
    }
    best->file_bytes = std::max(
        best->file_bytes, static_cast<int64_t>(uses.size() - best_resident) *
                              StateBytes(limits, rows));
  }
  return best;
}

}  // namespace qsweep
