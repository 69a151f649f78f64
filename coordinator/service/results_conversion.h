#ifndef QSWEEP_COORDINATOR_SERVICE_RESULTS_CONVERSION_H_
#define QSWEEP_COORDINATOR_SERVICE_RESULTS_CONVERSION_H_

#include <span>
#include <string>

#include "absl/status/statusor.h"

#include "coordinator/analysis/panel.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Between GetResults on the wire and coordinator/analysis. Pure.

// What the caller asked for, with defaults filled in. seed: the job's.
// INVALID_ARGUMENT QS1004: an unknown ref_rule, a confidence outside
// [0.5, 0.999], more than 1,000,000 resamples.
absl::StatusOr<analysis::Options> ResultsOptions(
    const v1::GetResultsRequest& request, uint64_t seed);

// The whole reply but `job`. panels and results are parallel; reference: corpus
// code of the reference language.
v1::GetResultsResponse ResultsToProto(
    std::span<const analysis::PanelInput> panels,
    std::span<const analysis::PanelResult> results,
    const analysis::Options& options, const std::string& reference);

// Hex SHA-256 of the rows behind the panels: one line per row, each row once,
// sorted bytewise. A line is model, configuration, evaluation, language,
// document, document_digest, status, nll_sum, nll_fp_sum, unigram_nll_sum,
// tokens, bytes, bytes_scored, chars, kl_sum, top1, nonfinite, written as in
// the CSV export of a job, separated by tabs.
std::string DataDigest(std::span<const analysis::PanelInput> panels);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_RESULTS_CONVERSION_H_
