#include "coordinator/core/balance.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iterator>
#include <set>
#include <utility>

namespace qsweep {
namespace {

// Of the mean, that a chunk may be heavier or lighter for units to stay whole.
constexpr double kUnitSlack = 0.1;

// What all items weigh together, about. Whole numbers: rounded sums could move
// an item to and fro for ever.
constexpr double kWeightOfAll = 1e15;

struct Unit {
  int64_t weight = 0;
  std::vector<int> items;
};

class Balancer {
 public:
  Balancer(const std::vector<BalancedItem>& items, size_t num_chunks)
      : items_(items), chunks_(num_chunks), weights_(num_chunks) {
    for (size_t chunk = 0; chunk < num_chunks; ++chunk) {
      by_weight_.emplace(0, chunk);
    }
    double all = 0;
    for (const BalancedItem& item : items) {
      all += item.weight;
    }
    for (const BalancedItem& item : items) {
      // Never nothing: so no chunk is empty.
      weight_of_.push_back(
          1 + (all > 0 ? std::llround(item.weight / all * kWeightOfAll) : 0));
      mean_ += static_cast<double>(weight_of_.back());
    }
    mean_ /= static_cast<double>(num_chunks);
  }

  std::vector<std::vector<int>> Run() {
    for (const Unit& unit : HeaviestFirst()) {
      const size_t lightest = by_weight_.begin()->second;
      chunks_[lightest].insert(chunks_[lightest].end(), unit.items.begin(),
                               unit.items.end());
      Weigh(lightest, unit.weight);
    }
    // What can give nothing more leaves by_weight_.
    while (by_weight_.size() > 1 && !Even()) {
      if (!Give(by_weight_.rbegin()->second, by_weight_.begin()->second)) {
        by_weight_.erase(std::prev(by_weight_.end()));
      }
    }
    for (std::vector<int>& chunk : chunks_) {
      std::ranges::sort(chunk);
    }
    std::ranges::sort(chunks_);
    return std::move(chunks_);
  }

 private:
  int64_t WeightOf(int item) const {
    return weight_of_[static_cast<size_t>(item)];
  }

  std::vector<Unit> HeaviestFirst() const {
    std::vector<Unit> units;
    std::vector<int> order(items_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<int>(i);
    }
    const auto unit_of = [this](int item) {
      return items_[static_cast<size_t>(item)].unit;
    };
    std::ranges::stable_sort(order, {}, unit_of);
    for (size_t i = 0; i < order.size(); ++i) {
      if (i == 0 || unit_of(order[i]) != unit_of(order[i - 1])) {
        units.emplace_back();
      }
      units.back().weight += WeightOf(order[i]);
      units.back().items.push_back(order[i]);
    }
    std::ranges::stable_sort(units, std::greater<>(), &Unit::weight);
    return units;
  }

  void Weigh(size_t chunk, int64_t more) {
    by_weight_.erase({weights_[chunk], chunk});
    weights_[chunk] += more;
    by_weight_.emplace(weights_[chunk], chunk);
  }

  bool Even() const {
    return static_cast<double>(by_weight_.rbegin()->first) <=
               mean_ * (1 + kUnitSlack) &&
           static_cast<double>(by_weight_.begin()->first) >=
               mean_ * (1 - kUnitSlack);
  }

  // Moves the item that makes the two most alike. False: none does.
  bool Give(size_t from, size_t to) {
    const int64_t gap = weights_[from] - weights_[to];
    std::vector<int>& items = chunks_[from];
    const auto best = std::ranges::min_element(items, {}, [&](int item) {
      return std::abs(gap - 2 * WeightOf(item));
    });
    if (items.size() < 2 || WeightOf(*best) >= gap) {
      return false;
    }
    const int item = *best;
    items.erase(best);
    chunks_[to].push_back(item);
    Weigh(from, -WeightOf(item));
    Weigh(to, WeightOf(item));
    return true;
  }

  const std::vector<BalancedItem>& items_;
  std::vector<int64_t> weight_of_;  // parallel to items_
  double mean_ = 0;                 // of the chunks
  std::vector<std::vector<int>> chunks_;
  std::vector<int64_t> weights_;                    // parallel to chunks_
  std::set<std::pair<int64_t, size_t>> by_weight_;  // (weight, chunk)
};

}  // namespace

std::vector<std::vector<int>> Balance(const std::vector<BalancedItem>& items,
                                      size_t wanted) {
  return Balancer(items, std::clamp<size_t>(wanted, 1, items.size())).Run();
}

}  // namespace qsweep
