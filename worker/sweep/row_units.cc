#include "worker/sweep/row_units.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace qsweep {

std::vector<std::vector<size_t>> PackUnits(
    std::span<const int64_t> document_rows, int64_t capacity, int64_t step) {
  std::vector<size_t> longest_first(document_rows.size());
  std::iota(longest_first.begin(), longest_first.end(), size_t{0});
  std::ranges::stable_sort(longest_first, [&](size_t a, size_t b) {
    return document_rows[a] > document_rows[b];
  });
  std::vector<std::vector<size_t>> units;
  std::multimap<int64_t, size_t> open;  // units by the rows they have room for
  for (const size_t document : longest_first) {
    const int64_t rows = document_rows[document];
    const auto tightest = open.lower_bound(rows);
    int64_t room = 0;
    size_t unit = units.size();
    if (tightest != open.end()) {
      room = tightest->first - rows;
      unit = tightest->second;
      open.erase(tightest);
    } else {
      room = std::max(capacity, (rows + step - 1) / step * step) - rows;
      units.emplace_back();
    }
    units[unit].push_back(document);
    if (room > 0) {
      open.emplace(room, unit);
    }
  }
  return units;
}

}  // namespace qsweep
