// What Balance makes of random items.
#include "coordinator/core/balance.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "rapidcheck/gtest.h"

namespace qsweep::testing {
namespace {

std::vector<BalancedItem> AnyItems() {
  std::vector<BalancedItem> items;
  const auto drawn =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<std::pair<int, int>>>(
          rc::gen::pair(rc::gen::inRange(0, 8), rc::gen::inRange(0, 20))));
  for (const auto& [unit, bytes] : drawn) {
    // Sums of such numbers are rounded.
    items.push_back({.unit = unit, .weight = bytes / 3.5});
  }
  return items;
}

double WeightOf(const std::vector<BalancedItem>& items,
                const std::vector<int>& chunk) {
  double weight = 0;
  for (const int item : chunk) {
    weight += items[static_cast<size_t>(item)].weight;
  }
  return weight;
}

RC_GTEST_PROP(Balance, HasEachItemOnce_AndNoChunkIsEmpty, ()) {
  const std::vector<BalancedItem> items = AnyItems();
  const size_t wanted = *rc::gen::inRange<size_t>(0, 12);
  std::vector<int> seen;
  const auto chunks = Balance(items, wanted);
  RC_ASSERT(chunks.size() == std::clamp<size_t>(wanted, 1, items.size()));
  for (const std::vector<int>& chunk : chunks) {
    RC_ASSERT(!chunk.empty());
    RC_ASSERT(std::ranges::is_sorted(chunk));
    seen.insert(seen.end(), chunk.begin(), chunk.end());
  }
  std::ranges::sort(seen);
  for (size_t i = 0; i < items.size(); ++i) {
    RC_ASSERT(seen.at(i) == static_cast<int>(i));
  }
  RC_ASSERT(Balance(items, wanted) == chunks);
}

// No item of the heaviest chunk makes it and the lightest more alike.
RC_GTEST_PROP(Balance, IsEven_OrNoItemWouldMakeItSo, ()) {
  const std::vector<BalancedItem> items = AnyItems();
  const auto chunks = Balance(items, *rc::gen::inRange<size_t>(1, 12));
  std::vector<double> weights;
  double all = 0;
  for (const std::vector<int>& chunk : chunks) {
    weights.push_back(WeightOf(items, chunk));
    all += weights.back();
  }
  const auto heaviest = std::ranges::max_element(weights);
  const double gap = *heaviest - std::ranges::min(weights);
  if (*heaviest <= 1.1001 * all / static_cast<double>(chunks.size())) {
    return;
  }
  const std::vector<int>& heavy =
      chunks[static_cast<size_t>(heaviest - weights.begin())];
  for (const int item : heavy) {
    RC_ASSERT(heavy.size() == 1 ||
              items[static_cast<size_t>(item)].weight >= gap - 1e-5 * all);
  }
}

}  // namespace
}  // namespace qsweep::testing
