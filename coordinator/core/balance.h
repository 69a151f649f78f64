#ifndef QSWEEP_COORDINATOR_CORE_BALANCE_H_
#define QSWEEP_COORDINATOR_CORE_BALANCE_H_

#include <cstddef>
#include <vector>

namespace qsweep {

struct BalancedItem {
  int unit = 0;       // items of one unit belong together
  double weight = 0;  // 0 or more
};

// Cuts items into chunks of about equal weight: `wanted` of them, or one an
// item where there are fewer; none is empty. Chunks hold positions in items,
// ascending, and come in the order of their first. Whole units go one by one,
// the heaviest first, to the chunk that is lightest; while a chunk is more than
// a tenth heavier or lighter than the mean, the heaviest gives single items to
// the lightest. Pure and deterministic.
std::vector<std::vector<int>> Balance(const std::vector<BalancedItem>& items,
                                      size_t wanted);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_BALANCE_H_
