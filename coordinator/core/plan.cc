#include "coordinator/core/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "coordinator/core/balance.h"

namespace qsweep {
namespace {

using Schemes = std::vector<std::optional<Scheme>>;

// Position of each tensor's stage: 0 the embeddings, 1..layers the blocks, -1
// after them (final norm, head), which the trie does not see.
std::vector<int> StageOfTensors(const ModelDescription& model) {
  std::vector<int> stages;
  for (const TensorDescription& tensor : model.tensors) {
    const bool embedding = tensor.component == Component::kEmbedToken ||
                           tensor.component == Component::kEmbedPosition;
    stages.push_back(tensor.layer >= 0 ? tensor.layer + 1
                                       : (embedding ? 0 : -1));
  }
  return stages;
}

class TrieCounter {
 public:
  explicit TrieCounter(const ModelDescription& model)
      : stages_(StageOfTensors(model)),
        num_stages_(static_cast<size_t>(model.layers) + 1),
        variants_(num_stages_) {}

  void Add(const Schemes& schemes) {
    std::vector<Schemes> by_stage(num_stages_);
    for (size_t i = 0; i < stages_.size(); ++i) {
      if (stages_[i] >= 0 && i < schemes.size()) {
        by_stage[static_cast<size_t>(stages_[i])].push_back(schemes[i]);
      }
    }
    int64_t prefix = 0;
    for (size_t stage = 0; stage < num_stages_; ++stage) {
      auto& variants = variants_[stage];
      const int64_t variant =
          variants
              .emplace(std::move(by_stage[stage]),
                       static_cast<int64_t>(variants.size()))
              .first->second;
      const auto [node, inserted] = nodes_.emplace(
          std::pair(prefix, variant), static_cast<int64_t>(nodes_.size()) + 1);
      prefix = node->second;
      layer_nodes_ += inserted && stage > 0 ? 1 : 0;
    }
  }

  int64_t layer_nodes() const { return layer_nodes_; }

 private:
  std::vector<int> stages_;
  size_t num_stages_;
  std::vector<std::map<Schemes, int64_t>> variants_;
  std::map<std::pair<int64_t, int64_t>, int64_t> nodes_;  // of all stages
  int64_t layer_nodes_ = 0;
};

// Documents that lack the same configurations.
struct Block {
  std::vector<int> configurations;
  std::vector<int> documents;
  int64_t trie_size = 0;
  double work = 0;  // seconds of computing
};

class Planner {
 public:
  Planner(const PlanInput& input, const Settings& settings)
      : input_(input),
        cost_(input.tries->model()),
        reading_(input.reading_seconds),
        readings_min_(settings.readings_min),
        target_(WorkOfTask(input.reading_seconds, settings)),
        target_min_(absl::ToDoubleSeconds(settings.task_target) / 3),
        max_rows_(static_cast<size_t>(settings.max_rows_per_task)) {}

  std::vector<PlannedTask> Plan() {
    std::vector<Block> blocks = Blocks();
    double work = 0;
    for (const Block& block : blocks) {
      work += block.work;
    }
    for (const Block& block : blocks) {
      // Its share of the four that a longer job has at least.
      const double share =
          work > target_min_ ? kTasksMin * block.work / work : 1;
      const double wanted =
          std::max(std::ceil(block.work / target_), std::round(share));
      for (std::vector<int>& chunk :
           Chunks(block.documents, AtMost(block.work, wanted))) {
        AddTasks(block, std::move(chunk));
      }
    }
    return std::move(tasks_);
  }

 private:
  static constexpr double kTasksMin = 4;

  // So many parts as wanted, or as few as take readings_min of the weights
  // each, the one among them that each begins with.
  size_t AtMost(double work, double wanted) const {
    if (reading_ > 0 && readings_min_ > 1) {
      wanted =
          std::min(wanted, std::floor(work / ((readings_min_ - 1) * reading_)));
    }
    return static_cast<size_t>(std::max(wanted, 1.0));
  }

  std::vector<Block> Blocks() const {
    std::map<std::vector<int>, std::vector<int>> documents_of;
    const size_t num_documents = input_.documents.size();
    for (size_t d = 0; d < num_documents; ++d) {
      std::vector<int> lacking;
      for (size_t c = 0; c < input_.tries->num_configurations(); ++c) {
        if (input_.missing[c * num_documents + d]) {
          lacking.push_back(static_cast<int>(c));
        }
      }
      if (!lacking.empty()) {
        documents_of[std::move(lacking)].push_back(static_cast<int>(d));
      }
    }
    std::vector<Block> blocks;
    for (auto& [configurations, documents] : documents_of) {
      Block block{.configurations = configurations,
                  .documents = std::move(documents)};
      block.trie_size = input_.tries->Of(configurations);
      block.work = Work(block.trie_size, configurations, block.documents);
      blocks.push_back(std::move(block));
    }
    return blocks;
  }

  double Work(int64_t trie_size, const std::vector<int>& configurations,
              const std::vector<int>& documents) const {
    double tokens = 0;
    for (const int d : documents) {
      tokens += input_.documents[static_cast<size_t>(d)].tokens;
    }
    return cost_.Seconds(trie_size, static_cast<int64_t>(configurations.size()),
                         tokens, input_.gflops);
  }

  // At most `wanted` chunks of about equal tokens: a worker that has drawn a
  // longer one would keep the job waiting at its end.
  std::vector<std::vector<int>> Chunks(const std::vector<int>& documents,
                                       size_t wanted) const {
    std::vector<BalancedItem> items;
    items.reserve(documents.size());
    for (const int d : documents) {
      const PlanDocument& document = input_.documents[static_cast<size_t>(d)];
      items.push_back({.unit = document.unit, .weight = document.tokens});
    }
    std::vector<std::vector<int>> chunks = Balance(items, wanted);
    for (std::vector<int>& chunk : chunks) {
      for (int& d : chunk) {
        d = documents[static_cast<size_t>(d)];
      }
    }
    return chunks;
  }

  void AddTasks(const Block& block, std::vector<int> documents) {
    if (documents.size() > 1 &&
        documents.size() * block.configurations.size() > max_rows_) {
      for (std::vector<int>& half : Chunks(documents, 2)) {
        AddTasks(block, std::move(half));
      }
      return;
    }
    const double work = Work(block.trie_size, block.configurations, documents);
    size_t slices = (block.configurations.size() + max_rows_ - 1) / max_rows_;
    if (work > 2 * target_) {
      slices = std::max(slices, AtMost(work, std::ceil(work / target_)));
    }
    slices = std::min(slices, block.configurations.size());
    for (size_t i = 0; i < slices; ++i) {
      const auto at = [&](size_t k) {
        return block.configurations.begin() +
               static_cast<std::ptrdiff_t>(block.configurations.size() * k /
                                           slices);
      };
      AddTask({at(i), at(i + 1)}, documents, slices == 1 ? block.trie_size : 0);
    }
  }

  void AddTask(std::vector<int> configurations, std::vector<int> documents,
               int64_t trie_size) {
    PlannedTask task{.configurations = std::move(configurations),
                     .documents = std::move(documents)};
    task.layer_evaluations =
        trie_size > 0 ? trie_size : input_.tries->Of(task.configurations);
    task.layer_evaluations_naive = input_.tries->NaiveOf(task.configurations);
    task.estimated_seconds =
        reading_ +
        Work(task.layer_evaluations, task.configurations, task.documents);
    tasks_.push_back(std::move(task));
  }

  const PlanInput& input_;
  const TokenCost cost_;
  const double reading_;  // seconds, of each task
  const double readings_min_;
  const double target_;      // seconds of computing
  const double target_min_;  // of a job that is not cut
  const size_t max_rows_;
  std::vector<PlannedTask> tasks_;
};

}  // namespace

double WorkOfTask(double reading_seconds, const Settings& settings) {
  const double target = absl::ToDoubleSeconds(settings.task_target);
  return settings.readings_min > 1
             ? std::max(target, settings.readings_min * reading_seconds) -
                   reading_seconds
             : target;
}

std::vector<PlannedTask> PlanTasks(const PlanInput& input,
                                   const Settings& settings) {
  return Planner(input, settings).Plan();
}

int64_t TrieSizes::Of(const std::vector<int>& indexes) {
  const auto known = sizes_.find(indexes);
  if (known != sizes_.end()) {
    return known->second;
  }
  std::vector<const Configuration*> selected;
  for (const int index : indexes) {
    selected.push_back(configurations_[static_cast<size_t>(index)]);
  }
  return sizes_.emplace(indexes, TrieSize(model_, selected)).first->second;
}

int64_t TrieSizes::NaiveOf(const std::vector<int>& indexes) const {
  const auto is_baseline = [this](int index) {
    return configurations_[static_cast<size_t>(index)]->baseline();
  };
  const int64_t measured = static_cast<int64_t>(indexes.size());
  return (measured + (std::ranges::any_of(indexes, is_baseline) ? 0 : 1)) *
         model_.layers;
}

Digest TaskContentKey(const std::string& evaluation,
                      const std::set<Digest>& configurations,
                      const std::set<Digest>& documents,
                      const std::string& own) {
  DigestBuilder builder;
  builder.Update(absl::StrCat("task@1\n", evaluation, "\n",
                              configurations.size(), " ", documents.size(),
                              "\n"));
  for (const Digest& digest : configurations) {
    builder.Update(digest.bytes());
  }
  for (const Digest& digest : documents) {
    builder.Update(digest.bytes());
  }
  builder.Update(own);
  return builder.Finish();
}

int64_t TrieSize(const ModelDescription& model,
                 const std::vector<const Configuration*>& configurations) {
  TrieCounter counter(model);
  counter.Add(Schemes(model.tensors.size()));  // the baseline
  for (const Configuration* configuration : configurations) {
    counter.Add(configuration->schemes);
  }
  return counter.layer_nodes();
}

uint64_t EstimateMemoryBytes(const ModelDescription& model) {
  constexpr uint64_t kLayersInFlight = 3;
  std::map<int, uint64_t> elements_of_layer;
  uint64_t outside = 0;
  for (const TensorDescription& tensor : model.tensors) {
    const auto elements = static_cast<uint64_t>(tensor.num_elements());
    if (tensor.layer >= 0) {
      elements_of_layer[tensor.layer] += elements;
    } else {
      outside = std::max(outside, elements);
    }
  }
  uint64_t largest = 0;
  for (const auto& [layer, elements] : elements_of_layer) {
    largest = std::max(largest, elements);
  }
  return std::max(kLayersInFlight * largest, outside) * sizeof(float);
}

TokenCost::TokenCost(const ModelDescription& model) {
  double linear_elements = 0;
  for (const TensorDescription& tensor : model.tensors) {
    if (IsLinear(tensor.component) && !tensor.bias) {
      linear_elements += static_cast<double>(tensor.num_elements());
    }
  }
  of_layer = 2 * linear_elements / std::max(model.layers, 1);
  of_head = 2.0 * model.hidden_size * model.vocabulary_size;
}

double TokenCost::Seconds(int64_t trie_size, int64_t num_configurations,
                          double tokens, double gflops) const {
  const double flops_per_token =
      of_layer * static_cast<double>(trie_size) +
      of_head * static_cast<double>(num_configurations);
  return flops_per_token * tokens / (gflops * 1e9);
}

}  // namespace qsweep
