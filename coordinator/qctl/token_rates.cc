#include "coordinator/qctl/token_rates.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/process.h"

namespace qsweep::qctl {
namespace {

// A line of each sample, as `qengine tokenize` reads them.
std::string AsLines(const v1::SampleTextsResponse& response) {
  std::string lines;
  for (const v1::TextSample& sample : response.samples()) {
    std::string line = sample.text();
    std::ranges::replace(line, '\n', ' ');
    absl::StrAppend(&lines, line, "\n");
  }
  return lines;
}

// How many ids each line has.
absl::StatusOr<std::vector<int64_t>> CountTokens(const std::string& engine,
                                                 const std::string& model,
                                                 const std::string& lines) {
  QSWEEP_ASSIGN_OR_RETURN(
      const ProgramResult result,
      RunProgram({engine, "tokenize", "--model", model}, lines));
  if (result.exit_code != 0) {
    return MakeError(kModelNotFound, "qengine cannot cut texts into tokens",
                     model);
  }
  std::vector<int64_t> counts;
  for (const absl::string_view line : absl::StrSplit(result.out, '\n')) {
    counts.push_back(line.empty() ? 0 : 1 + std::ranges::count(line, ' '));
  }
  return counts;
}

}  // namespace

absl::StatusOr<std::vector<v1::TokenRate>> MeasureTokenRates(
    CoordinatorClient& client, const std::string& binary_dir,
    const v1::JobSpec& spec) {
  v1::SampleTextsRequest request;
  request.set_corpus(spec.corpus());
  *request.mutable_languages() = spec.languages();
  request.set_reference(spec.reference());
  QSWEEP_ASSIGN_OR_RETURN(const v1::SampleTextsResponse response,
                          client.SampleTexts(request));
  const std::string lines = AsLines(response);
  std::vector<v1::TokenRate> rates;
  for (int m = 0; m < spec.models_size(); ++m) {
    QSWEEP_ASSIGN_OR_RETURN(
        const std::vector<int64_t> counts,
        CountTokens(binary_dir + "/qengine", spec.models(m).path(), lines));
    for (int i = 0; i < response.samples_size(); ++i) {
      const auto at = static_cast<size_t>(i);
      if (at >= counts.size() || counts[at] == 0) {
        continue;
      }
      v1::TokenRate& rate = rates.emplace_back();
      rate.set_model(static_cast<uint32_t>(m));
      rate.set_language(response.samples(i).language());
      rate.set_bytes_per_token(
          static_cast<double>(response.samples(i).text().size()) /
          static_cast<double>(counts[at]));
    }
  }
  return rates;
}

}  // namespace qsweep::qctl
