#ifndef QSWEEP_COORDINATOR_ANALYSIS_UNIT_TABLE_H_
#define QSWEEP_COORDINATOR_ANALYSIS_UNIT_TABLE_H_

#include <functional>
#include <string>
#include <vector>

#include "coordinator/analysis/panel.h"

namespace qsweep::analysis {

// The rows of a panel on a grid of aligned units. Used units are those with a
// kOk row in every language under the anchor configuration: `none` where it has
// rows, else the configuration (not the baseline, if possible) with most of
// them. Borrows the panel. Immutable.
class UnitTable {
 public:
  explicit UnitTable(const PanelInput& panel);

  int num_units() const { return static_cast<int>(units_.size()); }
  // Used units, by id, bytewise.
  const std::vector<std::string>& units() const { return units_; }
  int units_dropped() const { return units_dropped_; }
  int anchor() const { return anchor_; }
  // The language has a usable row under the anchor.
  bool present(int language) const;

  // How far a cell is: kOk, kPending (rows of used units are missing), kNoRows
  // (language not present), kNonfinite.
  EstimateStatus status(int configuration, int language) const;
  // Rows of used units that do not exist yet, in the present languages.
  int rows_missing(int configuration) const;

  // The rows of a cell whose status is not kPending or kNoRows, by unit.
  std::vector<const Row*> rows(int configuration, int language) const;
  // One value per used unit of such a cell.
  std::vector<double> Column(
      int configuration, int language,
      const std::function<double(const Row&)>& value) const;

 private:
  const Row* at(int configuration, int language, int unit) const;
  void ChooseAnchor(const std::vector<Row>& rows);
  void ChooseUnits(const std::vector<std::string>& seen);

  const PanelInput& panel_;
  int num_languages_;
  int num_seen_ = 0;
  int anchor_ = 0;
  int units_dropped_ = 0;
  std::vector<std::string> units_;
  std::vector<int> used_;         // index among the units seen, per used unit
  std::vector<bool> present_;     // [languages]
  std::vector<const Row*> grid_;  // [configurations, languages, seen]; or null
};

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_UNIT_TABLE_H_
