#include "tests/coordinator/qctl/output/sample_results.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace qsweep::qctl {
namespace {

void Set(v1::Estimate* estimate, double value, double half_width) {
  estimate->set_value(value);
  estimate->set_low(value - half_width);
  estimate->set_high(value + half_width);
  estimate->set_stderr(half_width / 2);
}

void SetStatus(v1::Estimate* estimate, const std::string& status) {
  *estimate = v1::Estimate();
  estimate->set_status(status);
}

void ClearGaps(v1::CellResult* cell, const std::string& status) {
  for (v1::Estimate* estimate :
       {cell->mutable_gap_bits_per_unit(), cell->mutable_gap_relative_loss(),
        cell->mutable_gap_bits_per_byte(), cell->mutable_gap_delta_nll(),
        cell->mutable_anchored_gap_bits_per_unit(),
        cell->mutable_anchored_gap_relative_loss(),
        cell->mutable_interaction()}) {
    SetStatus(estimate, status);
  }
}

void ClearCell(v1::CellResult* cell, const std::string& status) {
  ClearGaps(cell, status);
  SetStatus(cell->mutable_recovery(), status);
  SetStatus(cell->mutable_recovery_contrast(), status);
}

void AddLanguage(v1::ResultPanel* panel, const std::string& code,
                 const std::string& status, double nll, double unigram) {
  v1::LanguageResult* language = panel->add_languages();
  language->set_language(code);
  language->set_status(status);
  if (!status.empty()) {
    language->add_flags(status);
  }
  language->set_units(28);
  language->set_tokens(4000);
  language->set_bytes(16000);
  language->set_n_eff(15.2);
  language->set_nll_fp_per_token(nll);
  language->set_nll_unigram_per_token(unigram);
  language->set_ppl_fp(20.5);
}

// recovery: share taken back, plus a hundredth per language.
v1::ConfigurationResult* AddConfiguration(v1::ResultPanel* panel,
                                          const std::string& layer_set,
                                          double recovery, double contrast) {
  v1::ConfigurationResult* configuration = panel->add_configurations();
  configuration->set_model(panel->model());
  configuration->set_layer_set(layer_set);
  configuration->set_resolved(layer_set);
  configuration->set_quantizer(panel->quantizer());
  configuration->set_configuration_quantizer(panel->quantizer());
  configuration->set_configuration_digest(std::string(32, layer_set.back()));
  configuration->set_overhead_params(0.026);
  configuration->set_mean_kl(0.12);
  configuration->set_average_disparity(1.42);
  configuration->set_max_disparity(2.5);
  for (int l = 0; l < panel->languages_size(); ++l) {
    v1::CellResult* cell = configuration->add_cells();
    cell->set_language_index(static_cast<uint32_t>(l));
    Set(cell->mutable_delta_nll(), 0.3 * (1 - recovery) + 0.01 * l, 0.02);
    Set(cell->mutable_bits_per_unit(), 60 + 10 * l, 8);
    Set(cell->mutable_relative_loss(), 0.1 + 0.02 * l, 0.01);
    Set(cell->mutable_bits_per_byte(), 0.05, 0.01);
    Set(cell->mutable_recovery(), recovery + 0.01 * l, 0.05);
    Set(cell->mutable_recovery_contrast(), contrast + 0.01 * l, 0.05);
    Set(cell->mutable_interaction(), 0.01 * l, 0.05);
    Set(cell->mutable_gap_bits_per_unit(), 10 * l, 8);
    Set(cell->mutable_gap_relative_loss(), 0.02 * l, 0.01);
    Set(cell->mutable_gap_bits_per_byte(), 0.01 * l, 0.02);
    Set(cell->mutable_gap_delta_nll(), 0.01 * l, 0.02);
    Set(cell->mutable_anchored_gap_bits_per_unit(), 10 * l, 8);
    Set(cell->mutable_anchored_gap_relative_loss(), 0.02 * l, 0.01);
    cell->set_nll_per_token(3.3);
    cell->set_ppl(27.1);
    cell->set_degradation_percent(32.3);
    cell->set_kl_per_token(0.12);
    cell->set_top1_agreement(0.8);
    if (l == 0) {
      ClearGaps(cell, "reference");
    } else {
      cell->set_disparity(1.42);
      cell->set_verdict("not_resolved");
    }
  }
  ClearCell(configuration->mutable_cells(3), "unlearned");
  configuration->mutable_cells(3)->set_verdict("");
  return configuration;
}

void AddLayer(v1::ResultPanel* panel, uint32_t layer, double recovery,
              double contrast, uint32_t rank, uint32_t group,
              const std::string& standing) {
  v1::ConfigurationResult* configuration =
      AddConfiguration(panel, absl::StrCat("L", layer), recovery, contrast);
  configuration->set_layer(layer);
  configuration->set_rank(rank);
  configuration->set_group(group);
  configuration->set_standing(standing);
  configuration->set_worst_language("eng");
  *configuration->mutable_worst_recovery() = configuration->cells(0).recovery();
  Set(configuration->mutable_average_contrast(), contrast, 0.07);
}

void AddNone(v1::ResultPanel* panel) {
  v1::ConfigurationResult* none = AddConfiguration(panel, "none", 0, 0);
  none->set_unprotected(true);
  none->set_overhead_params(0);
  for (v1::CellResult& cell : *none->mutable_cells()) {
    SetStatus(cell.mutable_recovery(), "anchor");
    SetStatus(cell.mutable_recovery_contrast(), "anchor");
  }
  v1::CellResult* arabic = none->mutable_cells(1);
  Set(arabic->mutable_gap_bits_per_unit(), 15.6, 11.2);
  Set(arabic->mutable_gap_relative_loss(), -0.02, 0.03);
  arabic->set_verdict("unit_conflict");
  arabic->add_flags("unit_conflict");
  v1::CellResult* russian = none->mutable_cells(2);
  Set(russian->mutable_gap_bits_per_unit(), 21.3, 12.1);
  Set(russian->mutable_gap_relative_loss(), 0.06, 0.04);
  russian->set_verdict("worse");
}

void AddPanel(v1::GetResultsResponse* results) {
  v1::ResultPanel* panel = results->add_panels();
  panel->set_model("SmolLM2-135M");
  panel->set_quantizer("rtn:bits=4,group=64");
  panel->set_evaluation("aligned@1;tok=ab");
  panel->set_compute("fp32");
  panel->set_corpus("udhr");
  panel->set_layers(4);
  panel->set_units(28);
  panel->set_n_eff(15.2);
  panel->set_rows(672);
  panel->set_rows_expected(672);
  panel->set_resolved_ranks(1);
  panel->set_single_layers(4);
  panel->set_units_more_layers(163);
  panel->add_flags("prequantized");
  panel->add_notes("Re-quantization of an already quantized model.");
  AddLanguage(panel, "eng", "", 3.0, 7.1);
  AddLanguage(panel, "arb", "", 2.5, 6.0);
  AddLanguage(panel, "rus", "", 2.8, 6.4);
  AddLanguage(panel, "swh", "unlearned", 5.9, 6.0);
  panel->mutable_languages(1)->set_minimum_detectable(16);
  panel->mutable_languages(2)->set_units_more(0);
  panel->mutable_languages(2)->set_minimum_detectable(17.3);
  v1::ConfigurationResult* baseline = AddConfiguration(panel, "all", 1, 0);
  baseline->set_baseline(true);
  baseline->set_configuration_quantizer("fp");
  for (v1::CellResult& cell : *baseline->mutable_cells()) {
    ClearCell(&cell, "baseline");
    cell.clear_disparity();
    cell.set_verdict("");
  }
  AddNone(panel);
  AddLayer(panel, 0, 0.18, 0.12, 1, 1, "above");
  AddLayer(panel, 1, 0.07, 0.01, 2, 2, "not_told");
  AddLayer(panel, 2, 0.05, -0.01, 3, 2, "not_told");
  AddLayer(panel, 3, -0.06, -0.12, 4, 3, "below");
}

}  // namespace

v1::GetResultsResponse SampleResults() {
  v1::GetResultsResponse results;
  results.mutable_job()->set_job_uuid(std::string(16, '\x7f'));
  results.mutable_job()->set_job_number(12);
  results.mutable_job()->set_name("first <sweep>");
  results.set_reference("eng");
  results.set_data_digest(std::string(64, 'a'));
  results.set_rows(672);
  results.set_resamples(10000);
  results.set_seed(7);
  results.set_confidence(0.95);
  results.set_ref_rule("one");
  results.set_version("0.1.0");
  results.set_revision("abc");
  AddPanel(&results);
  return results;
}

}  // namespace qsweep::qctl
