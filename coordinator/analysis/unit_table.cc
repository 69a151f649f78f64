#include "coordinator/analysis/unit_table.h"

#include <algorithm>
#include <tuple>

#include "common/base/check.h"

namespace qsweep::analysis {

UnitTable::UnitTable(const PanelInput& panel)
    : panel_(panel), num_languages_(static_cast<int>(panel.languages.size())) {
  std::vector<std::string> seen;
  for (const Row& row : panel.rows) {
    seen.push_back(row.unit);
  }
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  num_seen_ = static_cast<int>(seen.size());
  grid_.resize(panel.configurations.size() * panel.languages.size() *
               seen.size());
  for (const Row& row : panel.rows) {
    const auto unit = std::lower_bound(seen.begin(), seen.end(), row.unit);
    const int cell = row.configuration * num_languages_ + row.language;
    const Row*& place = grid_.at(static_cast<size_t>(cell) * seen.size() +
                                 static_cast<size_t>(unit - seen.begin()));
    QSWEEP_CHECK(place == nullptr);
    place = &row;
  }
  ChooseAnchor(panel.rows);
  ChooseUnits(seen);
}

void UnitTable::ChooseAnchor(const std::vector<Row>& rows) {
  std::vector<int> usable(panel_.configurations.size());
  for (const Row& row : rows) {
    usable[static_cast<size_t>(row.configuration)] +=
        row.status == RowStatus::kOk ? 1 : 0;
  }
  // (unprotected, not the baseline, rows): the greatest that has any row.
  const auto worth = [&](size_t c) {
    const ConfigurationInput& configuration = panel_.configurations[c];
    return std::tuple(usable[c] > 0, configuration.unprotected,
                      !configuration.baseline, usable[c]);
  };
  for (size_t c = 1; c < usable.size(); ++c) {
    if (worth(c) > worth(static_cast<size_t>(anchor_))) {
      anchor_ = static_cast<int>(c);
    }
  }
}

void UnitTable::ChooseUnits(const std::vector<std::string>& seen) {
  const auto usable = [&](int language, int unit) {
    const Row* row = at(anchor_, language, unit);
    return row != nullptr && row->status == RowStatus::kOk;
  };
  present_.resize(static_cast<size_t>(num_languages_));
  for (int language = 0; language < num_languages_; ++language) {
    for (int unit = 0; unit < num_seen_; ++unit) {
      if (usable(language, unit)) {
        present_[static_cast<size_t>(language)] = true;
      }
    }
  }
  for (int unit = 0; unit < num_seen_; ++unit) {
    bool everywhere = !panel_.configurations.empty();
    for (int language = 0; language < num_languages_; ++language) {
      everywhere = everywhere && (!present(language) || usable(language, unit));
    }
    if (everywhere) {
      used_.push_back(unit);
      units_.push_back(seen[static_cast<size_t>(unit)]);
    }
  }
  units_dropped_ = num_seen_ - num_units();
}

const Row* UnitTable::at(int configuration, int language, int unit) const {
  const int cell = configuration * num_languages_ + language;
  return grid_[static_cast<size_t>(cell) * static_cast<size_t>(num_seen_) +
               static_cast<size_t>(unit)];
}

bool UnitTable::present(int language) const {
  return present_[static_cast<size_t>(language)];
}

EstimateStatus UnitTable::status(int configuration, int language) const {
  if (!present(language)) {
    return EstimateStatus::kNoRows;
  }
  uint64_t nonfinite = 0;
  for (const int unit : used_) {
    const Row* row = at(configuration, language, unit);
    if (row == nullptr || row->status != RowStatus::kOk) {
      return EstimateStatus::kPending;
    }
    nonfinite += row->nonfinite;
  }
  return nonfinite > 0 ? EstimateStatus::kNonfinite : EstimateStatus::kOk;
}

int UnitTable::rows_missing(int configuration) const {
  int missing = 0;
  for (int language = 0; language < num_languages_; ++language) {
    for (const int unit : used_) {
      missing +=
          present(language) && at(configuration, language, unit) == nullptr ? 1
                                                                            : 0;
    }
  }
  return missing;
}

std::vector<const Row*> UnitTable::rows(int configuration, int language) const {
  std::vector<const Row*> rows;
  for (const int unit : used_) {
    rows.push_back(at(configuration, language, unit));
  }
  return rows;
}

std::vector<double> UnitTable::Column(
    int configuration, int language,
    const std::function<double(const Row&)>& value) const {
  std::vector<double> column;
  for (const Row* row : rows(configuration, language)) {
    column.push_back(value(*row));
  }
  return column;
}

}  // namespace qsweep::analysis
