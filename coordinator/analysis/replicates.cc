#include "coordinator/analysis/replicates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "coordinator/analysis/unit_table.h"

namespace qsweep::analysis {
namespace {

size_t NumReplicates(const ConfigurationInput& configuration) {
  return std::max<size_t>(configuration.replicates.size(), 1);
}

// The mean of the rows of one document, at least one. Sums of tokens and bytes
// are the document's own, so all have the same.
Row MeanOf(std::span<const Row* const> rows) {
  for (const Row* row : rows) {
    if (row->status != RowStatus::kOk) {
      return *row;
    }
  }
  Row mean = *rows.front();
  const auto count = static_cast<double>(rows.size());
  const auto average = [&](auto value) {
    double sum = 0;
    for (const Row* row : rows) {
      sum += value(*row);
    }
    return sum / count;
  };
  mean.nll_sum = average([](const Row& row) { return row.nll_sum; });
  mean.nll_fp_sum = average([](const Row& row) { return row.nll_fp_sum; });
  mean.nonfinite = 0;
  for (const Row* row : rows) {
    mean.nonfinite += row->nonfinite;
    if (!row->kl_sum) {
      mean.kl_sum.reset();
    }
    if (!row->top1) {
      mean.top1.reset();
    }
  }
  if (mean.kl_sum) {
    mean.kl_sum = average([](const Row& row) { return *row.kl_sum; });
  }
  if (mean.top1) {
    mean.top1 = average([](const Row& row) { return *row.top1; });
  }
  return mean;
}

std::optional<Spread> SpreadOf(const std::vector<double>& values) {
  if (values.size() < 2) {
    return std::nullopt;
  }
  Spread spread = {.replicates = static_cast<int>(values.size())};
  for (const double value : values) {
    spread.mean += value / static_cast<double>(values.size());
  }
  double squares = 0;
  for (const double value : values) {
    squares += (value - spread.mean) * (value - spread.mean);
  }
  spread.standard_deviation =
      std::sqrt(squares / static_cast<double>(values.size() - 1));
  if (!std::isfinite(spread.standard_deviation)) {
    return std::nullopt;
  }
  return spread;
}

// One replicate number, over the units that the averaged panel uses.
class Draws {
 public:
  Draws(const PanelInput& panel, const PanelInput& averaged)
      : panel_(panel), units_(UnitTable(averaged).units()) {
    for (const Row& row : panel.rows) {
      if (!std::ranges::binary_search(units_, row.unit)) {
        continue;
      }
      Sums& sums = sums_[{row.configuration, row.language, row.replicate}];
      sums.loss += row.nll_sum - row.nll_fp_sum;
      sums.tokens += static_cast<double>(row.tokens);
    }
  }

  // nll_sum - nll_fp_sum over tokens, of each replicate. In the order of the
  // configuration's replicates.
  std::vector<double> Losses(size_t configuration, size_t language) const {
    std::vector<double> losses;
    const ConfigurationInput& input = panel_.configurations[configuration];
    for (size_t r = 0; r < NumReplicates(input); ++r) {
      if (const Sums* sums = Find(configuration, language, r)) {
        losses.push_back(sums->loss / sums->tokens);
      }
    }
    return losses;
  }

  // The recovery of each replicate that `none` has, too, by its number.
  std::map<int, double> Recoveries(size_t configuration, size_t none,
                                   size_t language) const {
    std::map<int, double> recoveries;
    const std::vector<Replicate>& own =
        panel_.configurations[configuration].replicates;
    const std::vector<Replicate>& others =
        panel_.configurations[none].replicates;
    for (size_t r = 0; r < own.size(); ++r) {
      const auto other =
          std::ranges::find(others, own[r].number, &Replicate::number);
      if (other == others.end()) {
        continue;
      }
      const Sums* sums = Find(configuration, language, r);
      const Sums* of_none =
          Find(none, language, static_cast<size_t>(other - others.begin()));
      if (sums != nullptr && of_none != nullptr && of_none->loss > 0) {
        recoveries[own[r].number] = 1 - sums->loss / of_none->loss;
      }
    }
    return recoveries;
  }

 private:
  struct Sums {
    double loss = 0;  // nats
    double tokens = 0;
  };

  const Sums* Find(size_t configuration, size_t language,
                   size_t replicate) const {
    const auto found =
        sums_.find({static_cast<int>(configuration), static_cast<int>(language),
                    static_cast<int>(replicate)});
    return found == sums_.end() ? nullptr : &found->second;
  }

  const PanelInput& panel_;
  const std::vector<std::string> units_;  // sorted
  // By configuration, language, index of the replicate.
  std::map<std::tuple<int, int, int>, Sums> sums_;
};

// Worst recovery by number of the replicate, where each language that counts
// has one.
std::map<int, double> WorstOf(
    const std::vector<std::map<int, double>>& recoveries) {
  std::map<int, double> worst;
  if (recoveries.empty()) {
    return worst;
  }
  for (const auto& [number, first] : recoveries.front()) {
    std::optional<double> least = first;
    for (const std::map<int, double>& language : recoveries) {
      const auto found = language.find(number);
      least = least && found != language.end()
                  ? std::optional(std::min(*least, found->second))
                  : std::nullopt;
    }
    if (least) {
      worst[number] = *least;
    }
  }
  return worst;
}

std::vector<double> Values(const std::map<int, double>& numbers) {
  std::vector<double> values;
  for (const auto& [number, value] : numbers) {
    values.push_back(value);
  }
  return values;
}

// worst: of each ranked layer.
void AddContrastSpreads(const std::map<size_t, std::map<int, double>>& worst,
                        PanelResult& result) {
  std::map<int, double> sums;
  std::map<int, size_t> counts;
  for (const auto& [configuration, numbers] : worst) {
    for (const auto& [number, value] : numbers) {
      sums[number] += value;
      ++counts[number];
    }
  }
  for (const auto& [configuration, numbers] : worst) {
    std::vector<double> contrasts;
    for (const auto& [number, value] : numbers) {
      if (counts[number] == worst.size()) {
        contrasts.push_back(value -
                            sums[number] / static_cast<double>(worst.size()));
      }
    }
    result.configurations[configuration].average_contrast_spread =
        SpreadOf(contrasts);
  }
}

}  // namespace

bool HasReplicates(const PanelInput& panel) {
  return std::ranges::any_of(
      panel.configurations,
      [](const ConfigurationInput& c) { return c.replicates.size() > 1; });
}

PanelInput AverageReplicates(const PanelInput& panel) {
  PanelInput averaged = panel;
  averaged.rows.clear();
  averaged.rows_stored = panel.rows.size();
  std::vector<const Row*> rows;
  for (const Row& row : panel.rows) {
    rows.push_back(&row);
  }
  // The replicates of a document side by side.
  const auto place = [](const Row* row) {
    return std::tie(row->configuration, row->language, row->unit);
  };
  std::ranges::sort(rows, [&](const Row* a, const Row* b) {
    return std::tuple(place(a), a->replicate) <
           std::tuple(place(b), b->replicate);
  });
  for (auto first = rows.begin(); first != rows.end();) {
    const auto last = std::find_if(first, rows.end(), [&](const Row* row) {
      return place(row) != place(*first);
    });
    const auto configuration = static_cast<size_t>((*first)->configuration);
    const auto count = static_cast<size_t>(last - first);
    if (count == NumReplicates(panel.configurations[configuration])) {
      averaged.rows.push_back(MeanOf({first, last}));
    }
    first = last;
  }
  return averaged;
}

void AddSpreads(const PanelInput& panel, const PanelInput& averaged,
                PanelResult& result) {
  const Draws draws(panel, averaged);
  const auto unprotected = std::ranges::find_if(
      panel.configurations, &ConfigurationInput::unprotected);
  std::map<size_t, std::map<int, double>> worst;
  for (size_t c = 0; c < result.configurations.size(); ++c) {
    if (panel.configurations[c].replicates.size() < 2) {
      continue;
    }
    ConfigurationResult& configuration = result.configurations[c];
    std::vector<std::map<int, double>> recoveries;  // of learned languages
    for (size_t l = 0; l < configuration.cells.size(); ++l) {
      CellResult& cell = configuration.cells[l];
      if (cell.delta_nll.value) {
        cell.delta_nll_spread = SpreadOf(draws.Losses(c, l));
      }
      if (cell.recovery.value) {
        const auto none = unprotected - panel.configurations.begin();
        recoveries.push_back(draws.Recoveries(c, static_cast<size_t>(none), l));
        cell.recovery_spread = SpreadOf(Values(recoveries.back()));
      }
    }
    if (configuration.worst_recovery.value) {
      const std::map<int, double> least = WorstOf(recoveries);
      configuration.worst_recovery_spread = SpreadOf(Values(least));
      if (configuration.rank > 0) {
        worst[c] = least;
      }
    }
  }
  AddContrastSpreads(worst, result);
}

}  // namespace qsweep::analysis
