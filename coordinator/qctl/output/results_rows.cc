#include "coordinator/qctl/output/results_rows.h"

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qsweep::qctl {
namespace {

// A metric of a cell; `estimate` has no bounds where none are computed.
struct Metric {
  const char* name;
  bool higher_is_better;
  v1::Estimate estimate;
};

v1::Estimate Plain(double value) {
  v1::Estimate estimate;
  estimate.set_value(value);
  return estimate;
}

v1::Estimate PlainOr(bool present, double value) {
  return present ? Plain(value) : v1::Estimate();
}

std::vector<Metric> MetricsOf(const v1::CellResult& cell) {
  return {
      {"ppl", false, PlainOr(cell.has_ppl(), cell.ppl())},
      {"deg_pct", false,
       PlainOr(cell.has_degradation_percent(), cell.degradation_percent())},
      {"disparity", false, PlainOr(cell.has_disparity(), cell.disparity())},
      {"delta_nll", false, cell.delta_nll()},
      {"bits_per_unit", false, cell.bits_per_unit()},
      {"relative_loss", false, cell.relative_loss()},
      {"bits_per_byte", false, cell.bits_per_byte()},
      {"recovery", true, cell.recovery()},
      {"recovery_contrast", true, cell.recovery_contrast()},
      {"interaction", true, cell.interaction()},
      {"gap_bits_per_unit", false, cell.gap_bits_per_unit()},
      {"gap_relative_loss", false, cell.gap_relative_loss()},
      {"gap_bits_per_byte", false, cell.gap_bits_per_byte()},
      {"gap_delta_nll", false, cell.gap_delta_nll()},
      {"anchored_gap_bits_per_unit", false, cell.anchored_gap_bits_per_unit()},
      {"anchored_gap_relative_loss", false, cell.anchored_gap_relative_loss()},
      {"kl", false, PlainOr(cell.has_kl_per_token(), cell.kl_per_token())},
      {"top1", true, PlainOr(cell.has_top1_agreement(), cell.top1_agreement())},
  };
}

std::vector<Column> Columns() {
  std::vector<Column> columns;
  for (const char* name : {"job",
                           "configuration",
                           "model",
                           "layer_set",
                           "resolved",
                           "layer",
                           "quantizer",
                           "compute",
                           "evaluation",
                           "lang",
                           "reference",
                           "n",
                           "tokens",
                           "metric",
                           "higher_is_better",
                           "value",
                           "stderr",
                           "ci_low",
                           "ci_high",
                           "flags",
                           "status",
                           "overhead_params",
                           "overhead_layers",
                           "overhead_kept",
                           "overhead_bytes"}) {
    columns.push_back({name, name});
  }
  return columns;
}

Value OrNull(bool present, double value) {
  return present ? Value(value) : Value();
}

// What the rows of one cell share.
struct CellPlace {
  const v1::GetResultsResponse& results;
  const v1::ResultPanel& panel;
  const v1::ConfigurationResult& configuration;
  const v1::LanguageResult& language;
  const v1::CellResult& cell;
};

std::vector<Value> Row(const CellPlace& at, const Metric& metric) {
  const v1::ConfigurationResult& configuration = at.configuration;
  const v1::Estimate& estimate = metric.estimate;
  return {absl::StrCat(at.results.job().job_number()),
          absl::BytesToHexString(configuration.configuration_digest()),
          at.panel.model(),
          configuration.layer_set(),
          configuration.resolved(),
          configuration.has_layer() ? Value(configuration.layer()) : Value(),
          at.panel.quantizer(),
          at.panel.compute(),
          at.panel.evaluation(),
          at.language.language(),
          at.results.reference(),
          at.language.units(),
          at.language.tokens(),
          metric.name,
          metric.higher_is_better,
          OrNull(estimate.has_value(), estimate.value()),
          OrNull(estimate.has_stderr(), estimate.stderr()),
          OrNull(estimate.has_low(), estimate.low()),
          OrNull(estimate.has_high(), estimate.high()),
          absl::StrJoin(at.cell.flags(), "+"),
          estimate.status(),
          configuration.overhead_params(),
          configuration.overhead_layers(),
          configuration.overhead_kept(),
          configuration.overhead_bytes()};
}

}  // namespace

Table ResultRows(const v1::GetResultsResponse& results) {
  Table table;
  table.kind = "ResultList";
  table.columns = Columns();
  table.name_column = "configuration";
  table.empty_text = "No results yet.";
  for (const v1::ResultPanel& panel : results.panels()) {
    for (const v1::ConfigurationResult& configuration :
         panel.configurations()) {
      for (const v1::CellResult& cell : configuration.cells()) {
        const auto index = static_cast<int>(cell.language_index());
        if (index >= panel.languages_size()) {
          continue;  // a newer coordinator may say more than we know
        }
        const CellPlace place = {results, panel, configuration,
                                 panel.languages(index), cell};
        for (const Metric& metric : MetricsOf(cell)) {
          if (metric.estimate.has_value() ||
              !metric.estimate.status().empty()) {
            table.rows.push_back(Row(place, metric));
          }
        }
      }
    }
  }
  return table;
}

}  // namespace qsweep::qctl
