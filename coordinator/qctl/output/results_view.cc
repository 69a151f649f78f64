#include "coordinator/qctl/output/results_view.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {
namespace {

using EstimateOf = const v1::Estimate& (v1::CellResult::*)() const;

// What a heatmap shows, and of which configurations.
struct HeatmapKind {
  EstimateOf estimate;
  bool single_layers;
  const char* title;
  const char* positive;
  const char* negative;
  bool positive_is_good;
};

constexpr HeatmapKind kKinds[] = {
    {&v1::CellResult::recovery_contrast, true,
     "Recovery minus the average layer's",
     "takes back more than the average "
     "layer",
     "takes back less", true},
    {&v1::CellResult::recovery, false, "Recovery of the loss at none",
     "takes loss back", "adds loss", true},
    {&v1::CellResult::relative_loss, false, "Loss relative to the baseline",
     "worse than the baseline", "better", false},
    {&v1::CellResult::delta_nll, false,
     "Loss per token, in hundredths of a nat", "worse than the baseline",
     "better", false},
};

struct EstimateMetric {
  const char* name;
  EstimateOf of;
};

constexpr EstimateMetric kEstimates[] = {
    {"delta_nll", &v1::CellResult::delta_nll},
    {"bits_per_unit", &v1::CellResult::bits_per_unit},
    {"relative_loss", &v1::CellResult::relative_loss},
    {"bits_per_byte", &v1::CellResult::bits_per_byte},
    {"recovery", &v1::CellResult::recovery},
    {"recovery_contrast", &v1::CellResult::recovery_contrast},
    {"interaction", &v1::CellResult::interaction},
    {"gap_bits_per_unit", &v1::CellResult::gap_bits_per_unit},
    {"gap_relative_loss", &v1::CellResult::gap_relative_loss},
    {"gap_bits_per_byte", &v1::CellResult::gap_bits_per_byte},
    {"gap_delta_nll", &v1::CellResult::gap_delta_nll},
    {"anchored_gap_bits_per_unit", &v1::CellResult::anchored_gap_bits_per_unit},
    {"anchored_gap_relative_loss",
     &v1::CellResult::anchored_gap_relative_loss}};

struct PlainMetric {
  const char* name;
  bool (v1::CellResult::*has)() const;
  double (v1::CellResult::*of)() const;
};

constexpr PlainMetric kPlain[] = {
    {"nll_per_token", &v1::CellResult::has_nll_per_token,
     &v1::CellResult::nll_per_token},
    {"ppl", &v1::CellResult::has_ppl, &v1::CellResult::ppl},
    {"degradation_percent", &v1::CellResult::has_degradation_percent,
     &v1::CellResult::degradation_percent},
    {"disparity", &v1::CellResult::has_disparity, &v1::CellResult::disparity},
    {"kl_per_token", &v1::CellResult::has_kl_per_token,
     &v1::CellResult::kl_per_token},
    {"top1_agreement", &v1::CellResult::has_top1_agreement,
     &v1::CellResult::top1_agreement}};

bool Shows(const HeatmapKind& kind,
           const v1::ConfigurationResult& configuration) {
  return kind.single_layers ? configuration.rank() > 0
                            : !configuration.baseline();
}

bool HasAny(const HeatmapKind& kind, const v1::ResultPanel& panel) {
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    for (const v1::CellResult& cell : configuration.cells()) {
      if (Shows(kind, configuration) && (cell.*kind.estimate)().has_value()) {
        return true;
      }
    }
  }
  return false;
}

const HeatmapKind& ChooseKind(const v1::ResultPanel& panel) {
  for (const HeatmapKind& kind : kKinds) {
    if (HasAny(kind, panel)) {
      return kind;
    }
  }
  return kKinds[0];
}

HeatCell MakeCell(const v1::Estimate& estimate) {
  HeatCell cell;
  cell.status = estimate.status();
  if (estimate.has_value()) {
    cell.value = 100 * estimate.value();
  }
  if (estimate.has_low() && estimate.has_high()) {
    cell.low = 100 * estimate.low();
    cell.high = 100 * estimate.high();
    cell.significant = *cell.low > 0 || *cell.high < 0;
  }
  return cell;
}

// The smallest round number that is not below the value.
double RoundUp(double value) {
  if (!(value > 0) || !std::isfinite(value)) {
    return 1;
  }
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (value <= step * power) {
      return step * power;
    }
  }
  return 10 * power;
}

}  // namespace

Heatmap MakeHeatmap(const v1::ResultPanel& panel) {
  const HeatmapKind& kind = ChooseKind(panel);
  Heatmap map;
  map.title = kind.title;
  map.unit = kind.positive_is_good ? "percentage points" : "percent";
  map.positive = kind.positive;
  map.negative = kind.negative;
  map.positive_is_good = kind.positive_is_good;
  for (const v1::LanguageResult& language : panel.languages()) {
    map.columns.push_back(language.language());
  }
  std::vector<const v1::ConfigurationResult*> shown;
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    if (Shows(kind, configuration)) {
      shown.push_back(&configuration);
    }
  }
  if (kind.single_layers) {
    std::sort(shown.begin(), shown.end(), [](const auto* a, const auto* b) {
      return a->layer() < b->layer();
    });
  }
  double greatest = 0;
  for (const v1::ConfigurationResult* configuration : shown) {
    map.rows.push_back(configuration->layer_set());
    map.cells.emplace_back();
    double sum = 0;
    int count = 0;
    for (const v1::CellResult& cell : configuration->cells()) {
      map.cells.back().push_back(MakeCell((cell.*kind.estimate)()));
      if (const std::optional<double> value = map.cells.back().back().value) {
        greatest = std::max(greatest, std::abs(*value));
        sum += *value;
        ++count;
      }
    }
    map.row_means.push_back(count > 0 ? std::optional(sum / count)
                                      : std::nullopt);
  }
  map.scale = RoundUp(greatest);
  return map;
}

std::vector<LayerBar> MakeLayerBars(const v1::ResultPanel& panel) {
  std::vector<LayerBar> bars;
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    if (configuration.rank() == 0) {
      continue;
    }
    const v1::Estimate& contrast = configuration.average_contrast();
    bars.push_back({.layer = configuration.layer_set(),
                    .rank = static_cast<int>(configuration.rank()),
                    .group = static_cast<int>(configuration.group()),
                    .standing = configuration.standing(),
                    .contrast = contrast.value(),
                    .low = contrast.low(),
                    .high = contrast.high(),
                    .worst_recovery = configuration.worst_recovery().value(),
                    .worst_language = configuration.worst_language()});
    if (configuration.has_average_contrast_spread()) {
      bars.back().contrast_sd =
          configuration.average_contrast_spread().standard_deviation();
    }
  }
  std::sort(bars.begin(), bars.end(), [](const LayerBar& a, const LayerBar& b) {
    return a.rank < b.rank;
  });
  return bars;
}

std::string SpreadText(const LayerBar& bar, const v1::ResultPanel& panel) {
  return bar.contrast_sd
             ? absl::StrCat(", SD ", NumberText(100 * *bar.contrast_sd),
                            " between ", panel.replicates_size(), " roundings")
             : "";
}

std::string RoundingsText(const v1::ResultPanel& panel) {
  return panel.replicates_size() > 1
             ? absl::StrCat("the mean of these ", panel.replicates_size(),
                            " roundings")
             : "this rounding only";
}

const v1::ConfigurationResult* FindUnprotected(const v1::ResultPanel& panel) {
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    if (configuration.unprotected()) {
      return &configuration;
    }
  }
  return nullptr;
}

bool HasFlag(const v1::ResultPanel& panel, const std::string& flag) {
  return std::find(panel.flags().begin(), panel.flags().end(), flag) !=
         panel.flags().end();
}

std::string NumberText(double number, bool is_signed) {
  constexpr double kZero = 1e-9;  // rounding, not a number to read
  const double size = std::abs(number);
  std::string text;
  if (!std::isfinite(number)) {
    text = std::isnan(number) ? "nan" : "inf";
  } else if (size >= 999.5) {
    text = WithThousands(std::llround(size));
  } else if (size >= 99.95) {
    text = absl::StrFormat("%.0f", size);
  } else if (size >= 9.995) {
    text = absl::StrFormat("%.1f", size);
  } else if (size >= 0.0995 || size < kZero) {
    text = absl::StrFormat("%.2f", size);
  } else if (size >= 0.0005) {
    text = absl::StrFormat("%.3f", size);
  } else {
    text = absl::StrFormat("%.1e", size);
  }
  return absl::StrCat(number <= -kZero ? "-" : (is_signed ? "+" : ""), text);
}

std::string EstimateText(const v1::Estimate& estimate, double factor,
                         bool is_signed) {
  if (!estimate.has_value()) {
    return StatusText(estimate.status());
  }
  std::string text = NumberText(factor * estimate.value(), is_signed);
  if (estimate.has_low() && estimate.has_high()) {
    absl::StrAppend(&text, " [", NumberText(factor * estimate.low()), ", ",
                    NumberText(factor * estimate.high()), "]");
  }
  return text;
}

std::string PercentText(double share) {
  return absl::StrCat(absl::StrFormat("%.4g", 100 * share), "%");
}

std::vector<std::string> RankTexts(const v1::ResultPanel& panel) {
  const std::vector<LayerBar> bars = MakeLayerBars(panel);
  std::vector<std::string> texts;
  for (size_t first = 0; first < bars.size();) {
    // Ranks that stand apart go one by one, groups above the average together,
    // whatever is left together.
    size_t end = first + 1;
    const bool resolved = first < panel.resolved_ranks();
    const bool above = bars[first].standing == "above";
    while (!resolved && end < bars.size() &&
           (!above || bars[end].group == bars[first].group)) {
      ++end;
    }
    std::vector<std::string> layers;
    for (size_t i = first; i < end; ++i) {
      layers.push_back(bars[i].layer);
    }
    const std::string ranks = end == first + 1
                                  ? absl::StrCat("rank ", end)
                                  : absl::StrCat("ranks ", first + 1, "-", end);
    texts.push_back(absl::StrCat(
        ranks, resolved ? " resolved" : " not resolved",
        resolved || above ? absl::StrCat(": ", absl::StrJoin(layers, ", "))
                          : ""));
    first = end;
  }
  return texts;
}

std::string StatusText(const std::string& status) {
  static constexpr struct {
    const char* status;
    const char* text;
  } kTexts[] = {{"few_units", "too few units"},
                {"pending", "rows missing"},
                {"no_rows", "no rows"},
                {"nonfinite", "not finite"},
                {"unlearned", "not learned"},
                {"reference_unlearned", "reference not learned"},
                {"reference_missing", "no reference"},
                {"undefined", "undefined"},
                {"below_noise", "below noise"},
                {"reference", "reference"},
                {"anchor", "-"},
                {"baseline", "-"}};
  for (const auto& entry : kTexts) {
    if (status == entry.status) {
      return entry.text;
    }
  }
  return "-";
}

std::string VerdictText(const std::string& verdict) {
  if (verdict == "worse" || verdict == "better") {
    return absl::StrCat(verdict, " *");
  }
  if (verdict == "unit_conflict") {
    return "the units disagree: no verdict";
  }
  if (verdict == "exploratory") {
    return "exploratory: no verdict";
  }
  return verdict == "not_resolved" ? "not resolved" : "";
}

std::vector<std::string> MetricNames() {
  std::vector<std::string> names;
  for (const EstimateMetric& metric : kEstimates) {
    names.push_back(metric.name);
  }
  for (const PlainMetric& metric : kPlain) {
    names.push_back(metric.name);
  }
  return names;
}

std::optional<double> MetricOf(const v1::CellResult& cell,
                               absl::string_view metric) {
  for (const EstimateMetric& candidate : kEstimates) {
    if (metric == candidate.name && (cell.*candidate.of)().has_value()) {
      return (cell.*candidate.of)().value();
    }
  }
  for (const PlainMetric& candidate : kPlain) {
    if (metric == candidate.name && (cell.*candidate.has)()) {
      return (cell.*candidate.of)();
    }
  }
  return std::nullopt;
}

std::string Plural(uint64_t count, const std::string& noun) {
  return absl::StrCat(WithThousands(static_cast<int64_t>(count)), " ", noun,
                      count == 1 ? "" : "s");
}

std::string LayerList(std::vector<int> layers) {
  std::sort(layers.begin(), layers.end());
  std::vector<std::string> parts;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) {
      ++end;
    }
    if (end - i >= 3) {
      parts.push_back(absl::StrCat("L", layers[i], "-", layers[end - 1]));
    } else {
      for (size_t j = i; j < end; ++j) {
        parts.push_back(absl::StrCat("L", layers[j]));
      }
    }
    i = end;
  }
  return absl::StrJoin(parts, ", ");
}

std::string MoreText(uint32_t units, const std::string& noun) {
  constexpr uint32_t kMany = 100000;
  if (units > kMany) {
    return absl::StrCat("more than ", WithThousands(kMany), " more ", noun,
                        "s");
  }
  // Two digits say as much as the estimate knows.
  uint32_t step = 1;
  while (units / step >= 100) {
    step *= 10;
  }
  const uint32_t rounded = (units + step / 2) / step * step;
  return absl::StrCat("about ", WithThousands(rounded), " more ", noun,
                      rounded == 1 ? "" : "s");
}

}  // namespace qsweep::qctl
