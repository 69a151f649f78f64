#include "coordinator/qctl/output/results_json.h"

#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/base/ids.h"
#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/value.h"

namespace qsweep::qctl {
namespace {

template <typename Strings>
Value List(const Strings& strings) {
  Value::List list;
  for (const std::string& text : strings) {
    list.push_back(text);
  }
  return list;
}

std::string StatusOrOk(const std::string& status) {
  return status.empty() ? "ok" : status;
}

Value EstimateValue(const v1::Estimate& estimate) {
  const auto number = [](bool present, double value) {
    return present ? Value(value) : Value();
  };
  return Value::Object{
      {"value", number(estimate.has_value(), estimate.value())},
      {"low", number(estimate.has_low(), estimate.low())},
      {"high", number(estimate.has_high(), estimate.high())},
      {"stderr", number(estimate.has_stderr(), estimate.stderr())},
      {"status", StatusOrOk(estimate.status())}};
}

// A plain column beside its status: `missing` where it is absent.
void AddNumber(Value::Object& object, const std::string& name, bool present,
               double value, const std::string& missing) {
  object.emplace_back(name, present ? Value(value) : Value());
  object.emplace_back(name + "_status", !present               ? missing
                                        : std::isfinite(value) ? "ok"
                                                               : "overflow");
}

Value JobValue(const v1::JobSummary& job) {
  const auto uuid = JobUuid::FromBytes(job.job_uuid());
  return Value::Object{{"id", uuid.ok() ? uuid->text() : ""},
                       {"number", absl::StrCat(job.job_number())},
                       {"name", job.name()}};
}

Value LanguageValue(const v1::LanguageResult& language) {
  Value::Object object = {
      {"language", language.language()},
      {"status", StatusOrOk(language.status())},
      {"flags", List(language.flags())},
      {"units", language.units()},
      {"n_eff", language.n_eff()},
      {"tokens", language.tokens()},
      {"bytes", language.bytes()},
      {"nll_fp_per_token", language.nll_fp_per_token()},
      {"nll_unigram_per_token", language.nll_unigram_per_token()}};
  AddNumber(object, "ppl_fp", language.tokens() > 0, language.ppl_fp(),
            StatusOrOk(language.status()));
  object.emplace_back("units_more", language.has_units_more()
                                        ? Value(language.units_more())
                                        : Value());
  object.emplace_back("minimum_detectable",
                      language.minimum_detectable() > 0
                          ? Value(language.minimum_detectable())
                          : Value());
  return object;
}

// Null where there is one replicate.
Value SpreadValue(bool present, const v1::ReplicateSpread& spread) {
  if (!present) {
    return Value();
  }
  Value::Object object = {{"mean", spread.mean()},
                          {"standard_deviation", spread.standard_deviation()},
                          {"replicates", spread.replicates()}};
  return object;
}

Value CellValue(const v1::CellResult& cell, const std::string& language,
                bool is_reference) {
  Value::Object object = {
      {"language", language},
      {"flags", List(cell.flags())},
      {"verdict", cell.verdict()},
      {"delta_nll", EstimateValue(cell.delta_nll())},
      {"bits_per_unit", EstimateValue(cell.bits_per_unit())},
      {"relative_loss", EstimateValue(cell.relative_loss())},
      {"bits_per_byte", EstimateValue(cell.bits_per_byte())},
      {"recovery", EstimateValue(cell.recovery())},
      {"recovery_contrast", EstimateValue(cell.recovery_contrast())},
      {"interaction", EstimateValue(cell.interaction())},
      {"gap_bits_per_unit", EstimateValue(cell.gap_bits_per_unit())},
      {"gap_relative_loss", EstimateValue(cell.gap_relative_loss())},
      {"gap_bits_per_byte", EstimateValue(cell.gap_bits_per_byte())},
      {"gap_delta_nll", EstimateValue(cell.gap_delta_nll())},
      {"anchored_gap_bits_per_unit",
       EstimateValue(cell.anchored_gap_bits_per_unit())},
      {"anchored_gap_relative_loss",
       EstimateValue(cell.anchored_gap_relative_loss())}};
  const std::string missing = cell.delta_nll().status().empty()
                                  ? "undefined"
                                  : cell.delta_nll().status();
  AddNumber(object, "nll_per_token", cell.has_nll_per_token(),
            cell.nll_per_token(), missing);
  AddNumber(object, "kl_per_token", cell.has_kl_per_token(),
            cell.kl_per_token(), missing);
  AddNumber(object, "top1_agreement", cell.has_top1_agreement(),
            cell.top1_agreement(), missing);
  AddNumber(object, "ppl", cell.has_ppl(), cell.ppl(), missing);
  AddNumber(object, "degradation_percent", cell.has_degradation_percent(),
            cell.degradation_percent(), missing);
  AddNumber(object, "disparity", cell.has_disparity(), cell.disparity(),
            is_reference ? "reference" : "undefined");
  object.emplace_back(
      "delta_nll_spread",
      SpreadValue(cell.has_delta_nll_spread(), cell.delta_nll_spread()));
  object.emplace_back("recovery_spread", SpreadValue(cell.has_recovery_spread(),
                                                     cell.recovery_spread()));
  return object;
}

Value ConfigurationValue(const v1::ConfigurationResult& configuration,
                         const v1::ResultPanel& panel,
                         const std::string& reference) {
  Value::List cells;
  for (const v1::CellResult& cell : configuration.cells()) {
    const std::string& language =
        panel.languages(static_cast<int>(cell.language_index())).language();
    cells.push_back(CellValue(cell, language, language == reference));
  }
  Value::List replicates;
  for (const std::string& digest : configuration.replicate_digests()) {
    replicates.emplace_back(absl::BytesToHexString(digest));
  }
  Value::Object object = {
      {"configuration",
       absl::BytesToHexString(configuration.configuration_digest())},
      {"replicates", replicates},
      {"layer_set", configuration.layer_set()},
      {"resolved", configuration.resolved()},
      {"quantizer", configuration.configuration_quantizer()},
      {"layer",
       configuration.has_layer() ? Value(configuration.layer()) : Value()},
      {"baseline", configuration.baseline()},
      {"unprotected", configuration.unprotected()},
      {"overhead_params", configuration.overhead_params()},
      {"overhead_layers", configuration.overhead_layers()},
      {"overhead_kept", configuration.overhead_kept()},
      {"overhead_bytes", configuration.overhead_bytes()},
      {"flags", List(configuration.flags())},
      {"rows_missing", configuration.rows_missing()},
      {"rank",
       configuration.rank() > 0 ? Value(configuration.rank()) : Value()},
      {"group",
       configuration.group() > 0 ? Value(configuration.group()) : Value()},
      {"standing", configuration.standing()},
      {"worst_language", configuration.worst_language()},
      {"worst_recovery", EstimateValue(configuration.worst_recovery())},
      {"average_contrast", configuration.rank() > 0
                               ? EstimateValue(configuration.average_contrast())
                               : Value()}};
  AddNumber(object, "mean_kl", configuration.has_mean_kl(),
            configuration.mean_kl(), "undefined");
  AddNumber(object, "average_disparity", configuration.has_average_disparity(),
            configuration.average_disparity(), "undefined");
  AddNumber(object, "max_disparity", configuration.has_max_disparity(),
            configuration.max_disparity(), "undefined");
  object.emplace_back("worst_recovery_spread",
                      SpreadValue(configuration.has_worst_recovery_spread(),
                                  configuration.worst_recovery_spread()));
  object.emplace_back("average_contrast_spread",
                      SpreadValue(configuration.has_average_contrast_spread(),
                                  configuration.average_contrast_spread()));
  object.emplace_back("cells", cells);
  return object;
}

// Names and values of a panel, in the order they are printed.
Value::Object PanelObject(const v1::ResultPanel& panel,
                          const std::string& reference) {
  Value::List languages;
  for (const v1::LanguageResult& language : panel.languages()) {
    languages.push_back(LanguageValue(language));
  }
  Value::List configurations;
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    configurations.push_back(
        ConfigurationValue(configuration, panel, reference));
  }
  Value::List replicates;
  for (const uint32_t replicate : panel.replicates()) {
    replicates.emplace_back(replicate);
  }
  return {{"model", panel.model()},
          {"model_digest", absl::BytesToHexString(panel.model_digest())},
          {"layers", panel.layers()},
          {"vocabulary_size", panel.vocabulary_size()},
          {"quantizer", panel.quantizer()},
          {"replicates", replicates},
          {"evaluation", panel.evaluation()},
          {"compute", panel.compute()},
          {"corpus", panel.corpus()},
          {"flags", List(panel.flags())},
          {"notes", List(panel.notes())},
          {"noise_floor",
           panel.noise_floor() > 0 ? Value(panel.noise_floor()) : Value()},
          {"units", panel.units()},
          {"units_dropped", panel.units_dropped()},
          {"n_eff", panel.n_eff()},
          {"rows", panel.rows()},
          {"rows_expected", panel.rows_expected()},
          {"single_layers", panel.single_layers()},
          {"resolved_ranks", panel.resolved_ranks()},
          {"units_more_layers", panel.has_units_more_layers()
                                    ? Value(panel.units_more_layers())
                                    : Value()},
          {"languages", languages},
          {"configurations", configurations}};
}

}  // namespace

Value ResultsDocument(const v1::GetResultsResponse& results) {
  Table table;
  table.kind = "Results";
  table.extra = {{"job", JobValue(results.job())},
                 {"reference", results.reference()},
                 {"data_digest", results.data_digest()},
                 {"rows", results.rows()},
                 {"resamples", results.resamples()},
                 {"seed", absl::StrCat(results.seed())},
                 {"confidence", results.confidence()},
                 {"ref_rule", results.ref_rule()},
                 {"version", results.version()},
                 {"revision", results.revision()}};
  for (const v1::ResultPanel& panel : results.panels()) {
    std::vector<Value> row;
    table.columns.clear();
    for (auto& [name, value] : PanelObject(panel, results.reference())) {
      table.columns.push_back({name, ""});
      row.push_back(value);
    }
    table.rows.push_back(std::move(row));
  }
  return DocumentOf(table);
}

}  // namespace qsweep::qctl
