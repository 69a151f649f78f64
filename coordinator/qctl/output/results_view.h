#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_VIEW_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_VIEW_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What every picture and text about results is made from: plain views of one
// panel of a reply, and the way numbers are written. Pure.

// A cell of a heatmap.
struct HeatCell {
  std::optional<double> value;
  std::optional<double> low;
  std::optional<double> high;
  bool significant = false;  // the interval leaves out 0
  std::string status;        // why there is no value
};

// Configurations x languages of one estimand, centred on 0. Single layers, by
// depth, of recovery minus the average layer's where the panel has that; else
// recovery, else relative loss, of every configuration.
struct Heatmap {
  std::string title;     // "Recovery minus the average layer's"
  std::string unit;      // "percentage points"; values are in it
  std::string positive;  // what a positive value means: "takes back more"
  std::string negative;
  bool positive_is_good = true;
  double scale = 1;  // greatest absolute value, rounded up
  std::vector<std::string> rows;
  std::vector<std::string> columns;          // languages
  std::vector<std::vector<HeatCell>> cells;  // [rows][columns]
  std::vector<std::optional<double>> row_means;
};
Heatmap MakeHeatmap(const v1::ResultPanel& panel);

// A single layer in the order of its rank.
struct LayerBar {
  std::string layer;
  int rank = 0;
  int group = 0;
  std::string standing;  // "above", "below", "not_told"
  double contrast = 0;   // worst recovery minus the average layer's
  double low = 0;
  double high = 0;
  double worst_recovery = 0;
  std::string worst_language;
  // Of the contrast between the replicates; nothing where there is one.
  std::optional<double> contrast_sd;
};
std::vector<LayerBar> MakeLayerBars(const v1::ResultPanel& panel);

// With fewer effective units a sample is called a pilot.
inline constexpr double kPilotUnits = 50;

// The configuration that protects nothing; null where there is none.
const v1::ConfigurationResult* FindUnprotected(const v1::ResultPanel& panel);

bool HasFlag(const v1::ResultPanel& panel, const std::string& flag);

// "0.31", "21.3", "1,234": two to three significant digits; signed: with "+".
std::string NumberText(double number, bool is_signed = false);
// "+21.3 [9.0, 33.1]"; without an interval "+21.3"; without a value the status
// in words.
std::string EstimateText(const v1::Estimate& estimate, double factor = 1,
                         bool is_signed = false);
// 0.95 -> "95%".
std::string PercentText(double share);
// ", SD 1.4 between 3 roundings", in points; empty where there is one.
std::string SpreadText(const LayerBar& bar, const v1::ResultPanel& panel);
// "this rounding only", "the mean of these 3 roundings": what intervals cover.
std::string RoundingsText(const v1::ResultPanel& panel);
// "rank 1 resolved: L0", "ranks 2-4 not resolved: L29, L2, L28", "ranks 5-30
// not resolved", in order.
std::vector<std::string> RankTexts(const v1::ResultPanel& panel);
// "pending" -> "rows missing": a status in words for people.
std::string StatusText(const std::string& status);
// "worse" -> "worse *", "unit_conflict" -> "units disagree: no verdict".
std::string VerdictText(const std::string& verdict);

// Metrics of a cell by name: those of docs/metrics.md, "ppl",
// "degradation_percent", "disparity", "kl_per_token", "top1_agreement".
std::vector<std::string> MetricNames();
std::optional<double> MetricOf(const v1::CellResult& cell,
                               absl::string_view metric);

// "12 units", "1 unit".
std::string Plural(uint64_t count, const std::string& noun);
// "L0, L3-5, L9" of sorted layer numbers.
std::string LayerList(std::vector<int> layers);
// About how many more: "about 160 more units", "more than 100,000 more units".
std::string MoreText(uint32_t units, const std::string& noun);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_RESULTS_VIEW_H_
