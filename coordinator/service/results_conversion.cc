#include "coordinator/service/results_conversion.h"

#include <array>
#include <charconv>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/version.h"
#include "coordinator/analysis/names.h"

namespace qsweep {
namespace {

using analysis::Estimate;
using analysis::RefRule;

constexpr double kDefaultConfidence = 0.95;
constexpr uint32_t kDefaultResamples = 10000;
constexpr uint32_t kMaxResamples = 1000000;

std::string RefRuleName(RefRule rule) {
  switch (rule) {
    case RefRule::kOne:
      return "one";
    case RefRule::kInf:
      return "inf";
    case RefRule::kZero:
      return "zero";
  }
  return "";
}

std::string RowStatusName(analysis::RowStatus status) {
  switch (status) {
    case analysis::RowStatus::kOk:
      return "ok";
    case analysis::RowStatus::kOneToken:
      return "one_token";
    case analysis::RowStatus::kTooLong:
      return "too_long";
    case analysis::RowStatus::kEmpty:
      return "empty";
  }
  return "";
}

std::string ShortestText(double number) {
  std::array<char, 32> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return std::string(buffer.data(), end);
}

const std::string& DigestOf(const analysis::ConfigurationInput& configuration,
                            int replicate) {
  return configuration.replicates.empty()
             ? configuration.digest
             : configuration.replicates[static_cast<size_t>(replicate)].digest;
}

std::string DigestLine(const analysis::PanelInput& panel,
                       const analysis::Row& row) {
  const bool ok = row.status == analysis::RowStatus::kOk;
  const auto sum = [ok](double value) {
    return ok ? ShortestText(value) : std::string();
  };
  const auto count = [ok](uint64_t value) {
    return ok ? absl::StrCat(value) : std::string();
  };
  return absl::StrJoin(
      {panel.model_digest,
       DigestOf(panel.configurations[static_cast<size_t>(row.configuration)],
                row.replicate),
       panel.evaluation, panel.languages[static_cast<size_t>(row.language)],
       row.unit, row.document_digest, RowStatusName(row.status),
       sum(row.nll_sum), sum(row.nll_fp_sum), sum(row.unigram_nll_sum),
       count(row.tokens), absl::StrCat(row.bytes), count(row.bytes_scored),
       absl::StrCat(row.chars), row.kl_sum ? sum(*row.kl_sum) : "",
       row.top1 ? count(static_cast<uint64_t>(*row.top1)) : "",
       count(row.nonfinite)},
      "\t");
}

// Each row once: panels share the baseline's.
std::set<std::string> DigestLines(
    std::span<const analysis::PanelInput> panels) {
  std::set<std::string> lines;
  for (const analysis::PanelInput& panel : panels) {
    for (const analysis::Row& row : panel.rows) {
      lines.insert(DigestLine(panel, row));
    }
  }
  return lines;
}

std::string DigestOf(const std::set<std::string>& lines) {
  DigestBuilder digest;
  for (const std::string& line : lines) {
    digest.Update(line);
    digest.Update("\n");
  }
  return digest.Finish().hex();
}

void ToProto(const Estimate& estimate, v1::Estimate* out) {
  if (estimate.value) {
    out->set_value(*estimate.value);
  }
  if (estimate.low && estimate.high) {
    out->set_low(*estimate.low);
    out->set_high(*estimate.high);
  }
  if (estimate.standard_error) {
    out->set_stderr(*estimate.standard_error);
  }
  out->set_status(std::string(analysis::StatusName(estimate.status)));
}

v1::ReplicateSpread ToProto(const analysis::Spread& spread) {
  v1::ReplicateSpread out;
  out.set_mean(spread.mean);
  out.set_standard_deviation(spread.standard_deviation);
  out.set_replicates(static_cast<uint32_t>(spread.replicates));
  return out;
}

void ToProto(const analysis::LanguageResult& language, uint64_t units,
             v1::LanguageResult* out) {
  out->set_language(language.language);
  out->mutable_flags()->Assign(language.flags.begin(), language.flags.end());
  out->set_units(language.status == analysis::EstimateStatus::kNoRows ? 0
                                                                      : units);
  out->set_tokens(language.tokens);
  out->set_bytes(language.bytes);
  out->set_nll_fp_per_token(language.nll_fp_per_token);
  out->set_nll_unigram_per_token(language.nll_unigram_per_token);
  out->set_ppl_fp(language.ppl_fp);
  if (language.units_more) {
    out->set_units_more(*language.units_more);
  }
  out->set_minimum_detectable(language.minimum_detectable);
  out->set_n_eff(language.n_eff);
  out->set_status(std::string(analysis::StatusName(language.status)));
}

void ToProto(const analysis::CellResult& cell, int language,
             v1::CellResult* out) {
  out->set_language_index(static_cast<uint32_t>(language));
  out->mutable_flags()->Assign(cell.flags.begin(), cell.flags.end());
  ToProto(cell.delta_nll, out->mutable_delta_nll());
  ToProto(cell.bits_per_unit, out->mutable_bits_per_unit());
  ToProto(cell.relative_loss, out->mutable_relative_loss());
  ToProto(cell.bits_per_byte, out->mutable_bits_per_byte());
  ToProto(cell.recovery, out->mutable_recovery());
  ToProto(cell.recovery_contrast, out->mutable_recovery_contrast());
  ToProto(cell.interaction, out->mutable_interaction());
  ToProto(cell.gap_delta_nll, out->mutable_gap_delta_nll());
  ToProto(cell.gap_bits_per_unit, out->mutable_gap_bits_per_unit());
  ToProto(cell.gap_relative_loss, out->mutable_gap_relative_loss());
  ToProto(cell.gap_bits_per_byte, out->mutable_gap_bits_per_byte());
  ToProto(cell.anchored_gap_bits_per_unit,
          out->mutable_anchored_gap_bits_per_unit());
  ToProto(cell.anchored_gap_relative_loss,
          out->mutable_anchored_gap_relative_loss());
  out->set_verdict(std::string(analysis::VerdictName(cell.verdict)));
  if (cell.kl_per_token) {
    out->set_kl_per_token(*cell.kl_per_token);
  }
  if (cell.top1_agreement) {
    out->set_top1_agreement(*cell.top1_agreement);
  }
  if (cell.nll_per_token) {
    out->set_nll_per_token(*cell.nll_per_token);
  }
  if (cell.ppl) {
    out->set_ppl(*cell.ppl);
  }
  if (cell.degradation_percent) {
    out->set_degradation_percent(*cell.degradation_percent);
  }
  if (cell.disparity) {
    out->set_disparity(*cell.disparity);
  }
  if (cell.delta_nll_spread) {
    *out->mutable_delta_nll_spread() = ToProto(*cell.delta_nll_spread);
  }
  if (cell.recovery_spread) {
    *out->mutable_recovery_spread() = ToProto(*cell.recovery_spread);
  }
}

void ToProto(const analysis::PanelInput& panel,
             const analysis::ConfigurationInput& input,
             const analysis::ConfigurationResult& result,
             v1::ConfigurationResult* out) {
  out->set_model(panel.model);
  out->set_model_digest(absl::HexStringToBytes(panel.model_digest));
  out->set_configuration_digest(absl::HexStringToBytes(input.digest));
  out->set_layer_set(input.layer_set);
  out->set_resolved(input.resolved);
  out->set_quantizer(panel.quantizer);
  out->set_configuration_quantizer(input.quantizer);
  if (input.layer) {
    out->set_layer(static_cast<uint32_t>(*input.layer));
  }
  out->set_baseline(input.baseline);
  out->set_unprotected(input.unprotected);
  out->set_overhead_params(input.overhead_params);
  out->set_overhead_layers(input.overhead_layers);
  out->set_overhead_kept(input.overhead_kept);
  out->set_overhead_bytes(input.overhead_bytes);
  for (const analysis::Replicate& replicate : input.replicates) {
    out->add_replicate_digests(absl::HexStringToBytes(replicate.digest));
  }
  for (size_t l = 0; l < result.cells.size(); ++l) {
    ToProto(result.cells[l], static_cast<int>(l), out->add_cells());
  }
  ToProto(result.worst_recovery, out->mutable_worst_recovery());
  out->set_worst_language(result.worst_language);
  if (result.rank > 0) {
    ToProto(result.average_contrast, out->mutable_average_contrast());
  }
  out->set_standing(std::string(analysis::StandingName(result.standing)));
  out->set_rank(static_cast<uint32_t>(result.rank));
  out->set_group(static_cast<uint32_t>(result.group));
  if (result.mean_kl) {
    out->set_mean_kl(*result.mean_kl);
  }
  if (result.average_disparity) {
    out->set_average_disparity(*result.average_disparity);
  }
  if (result.max_disparity) {
    out->set_max_disparity(*result.max_disparity);
  }
  if (result.worst_recovery_spread) {
    *out->mutable_worst_recovery_spread() =
        ToProto(*result.worst_recovery_spread);
  }
  if (result.average_contrast_spread) {
    *out->mutable_average_contrast_spread() =
        ToProto(*result.average_contrast_spread);
  }
  out->mutable_flags()->Assign(result.flags.begin(), result.flags.end());
  out->set_rows_missing(result.rows_missing);
}

void ToProto(const analysis::PanelInput& panel,
             const analysis::PanelResult& result, v1::ResultPanel* out) {
  out->set_model(panel.model);
  out->set_model_digest(absl::HexStringToBytes(panel.model_digest));
  out->set_quantizer(panel.quantizer);
  out->set_evaluation(panel.evaluation);
  out->set_compute(panel.compute);
  out->set_corpus(panel.corpus);
  out->set_layers(static_cast<uint32_t>(panel.layers));
  out->set_vocabulary_size(static_cast<uint32_t>(panel.vocabulary_size));
  out->mutable_replicates()->Assign(panel.replicates.begin(),
                                    panel.replicates.end());
  out->set_noise_floor(panel.noise_floor);
  for (const analysis::LanguageResult& language : result.languages) {
    ToProto(language, result.units, out->add_languages());
  }
  for (size_t c = 0; c < result.configurations.size(); ++c) {
    ToProto(panel, panel.configurations[c], result.configurations[c],
            out->add_configurations());
  }
  out->set_units(result.units);
  out->set_units_dropped(result.units_dropped);
  out->set_n_eff(result.n_eff);
  out->set_resolved_ranks(static_cast<uint32_t>(result.resolved_ranks));
  out->set_single_layers(static_cast<uint32_t>(result.single_layers));
  if (result.units_more_layers) {
    out->set_units_more_layers(*result.units_more_layers);
  }
  out->mutable_flags()->Assign(result.flags.begin(), result.flags.end());
  out->mutable_notes()->Assign(result.notes.begin(), result.notes.end());
  out->set_rows(result.rows);
  out->set_rows_expected(result.rows_expected);
}

}  // namespace

absl::StatusOr<analysis::Options> ResultsOptions(
    const v1::GetResultsRequest& request, uint64_t seed) {
  analysis::Options options;
  options.seed = seed;
  options.confidence =
      request.confidence() == 0 ? kDefaultConfidence : request.confidence();
  if (!(options.confidence >= 0.5 && options.confidence <= 0.999)) {
    return MakeError(kBadValue,
                     absl::StrCat("a confidence of ", options.confidence,
                                  " is not between 0.5 and 0.999"),
                     "confidence", "Use a share like 0.95.");
  }
  const uint32_t resamples =
      request.resamples() == 0 ? kDefaultResamples : request.resamples();
  if (resamples > kMaxResamples) {
    return MakeError(
        kBadValue,
        absl::StrCat(resamples, " resamples are more than ", kMaxResamples),
        "resamples", "Use 10000, the default.");
  }
  options.resamples = static_cast<int>(resamples);
  if (request.ref_rule().empty()) {
    return options;
  }
  for (const RefRule rule : {RefRule::kOne, RefRule::kInf, RefRule::kZero}) {
    if (request.ref_rule() == RefRuleName(rule)) {
      options.ref_rule = rule;
      return options;
    }
  }
  return MakeError(kBadValue,
                   absl::StrCat("unknown rule \"", request.ref_rule(), "\""),
                   "ref_rule", "Use one, inf or zero.");
}

v1::GetResultsResponse ResultsToProto(
    std::span<const analysis::PanelInput> panels,
    std::span<const analysis::PanelResult> results,
    const analysis::Options& options, const std::string& reference) {
  v1::GetResultsResponse response;
  response.set_reference(reference);
  for (size_t i = 0; i < results.size(); ++i) {
    ToProto(panels[i], results[i], response.add_panels());
  }
  const std::set<std::string> lines = DigestLines(panels);
  response.set_data_digest(DigestOf(lines));
  response.set_rows(lines.size());
  response.set_resamples(static_cast<uint64_t>(options.resamples));
  response.set_seed(options.seed);
  response.set_confidence(options.confidence);
  response.set_ref_rule(RefRuleName(options.ref_rule));
  response.set_version(kVersion);
  response.set_revision(kRevision);
  return response;
}

std::string DataDigest(std::span<const analysis::PanelInput> panels) {
  return DigestOf(DigestLines(panels));
}

}  // namespace qsweep
