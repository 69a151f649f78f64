#include "coordinator/qctl/output/results_rows.h"

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/job/cell_metrics.h"

namespace qsweep::qctl {
namespace {

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

std::vector<Value> Row(const CellPlace& at, const CellMetric& metric) {
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
        for (const CellMetric& metric : MetricsOf(cell)) {
          table.rows.push_back(Row(place, metric));
        }
      }
    }
  }
  return table;
}

}  // namespace qsweep::qctl
