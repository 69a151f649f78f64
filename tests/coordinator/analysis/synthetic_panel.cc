#include "tests/coordinator/analysis/synthetic_panel.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/digest.h"

namespace qsweep::analysis {
namespace {

double ValueOr(const std::vector<double>& values, size_t index,
               double otherwise) {
  return index < values.size() ? values[index] : otherwise;
}

Row BaselineRow(int language, int unit, const SyntheticOptions& options,
                Random& random) {
  const double length =
      options.varied_lengths ? std::exp(0.6 * Normal(random)) : 1.0;
  Row row;
  row.language = language;
  row.unit = absl::StrCat("u", unit);
  row.document_digest =
      Digest::Of(absl::StrCat(options.languages[static_cast<size_t>(language)],
                              "/", unit))
          .hex();
  row.tokens = static_cast<uint64_t>(20 + 60 * length);
  row.bytes = row.tokens * 4;
  row.bytes_scored = row.bytes;
  row.chars = row.bytes;
  const double tokens = static_cast<double>(row.tokens);
  row.nll_fp_sum = tokens * (3.0 + 0.2 * Normal(random));
  row.nll_sum = row.nll_fp_sum;
  row.unigram_nll_sum = tokens * 7.0;
  row.kl_sum = 0.0;
  row.top1 = static_cast<double>(row.tokens);
  return row;
}

ConfigurationInput Configuration(const std::string& layer_set) {
  ConfigurationInput configuration;
  configuration.layer_set = layer_set;
  configuration.resolved = layer_set;
  configuration.digest = Digest::Of(layer_set).hex();
  configuration.quantizer = layer_set == "all" ? "fp" : "rtn:bits=4,group=64";
  return configuration;
}

}  // namespace

double Normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log1p(-random.Uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.Uniform());
}

PanelInput SyntheticPanel(const SyntheticOptions& options) {
  PanelInput panel;
  panel.model = "tiny";
  panel.model_digest = Digest::Of("tiny").hex();
  panel.quantizer = "rtn:bits=4,group=64";
  panel.evaluation = "aligned@1;tok=00";
  panel.compute = "fp32";
  panel.corpus = "synthetic";
  panel.layers = options.layers;
  panel.vocabulary_size = 50000;
  panel.languages = options.languages;
  panel.reference = 0;
  panel.configurations = {Configuration("all"), Configuration("none")};
  panel.configurations[0].baseline = true;
  panel.configurations[1].unprotected = true;
  for (int layer = 0; layer < options.layers; ++layer) {
    panel.configurations.push_back(Configuration(absl::StrCat("L", layer)));
    panel.configurations.back().layer = layer;
    panel.configurations.back().overhead_params = 0.03;
  }
  Random random(options.seed);
  for (int language = 0; language < static_cast<int>(options.languages.size());
       ++language) {
    for (int unit = 0; unit < options.units; ++unit) {
      Row row = BaselineRow(language, unit, options, random);
      panel.rows.push_back(row);
      const double loss =
          static_cast<double>(row.tokens) *
          (ValueOr(options.loss, static_cast<size_t>(language), 0.3) +
           options.noise * Normal(random));
      for (int c = 1; c < options.layers + 2; ++c) {
        const double share =
            c == 1
                ? 0
                : ValueOr(options.recovery, static_cast<size_t>(c - 2), 0.03) +
                      0.2 * options.noise * Normal(random);
        row.configuration = c;
        row.nll_sum = row.nll_fp_sum + loss * (1 - share);
        row.kl_sum = std::abs(loss) * (1 - share) * 0.5;
        row.top1 = static_cast<double>(row.tokens * 8 / 10);
        panel.rows.push_back(row);
      }
    }
  }
  return panel;
}

PanelInput Replicated(const PanelInput& panel, int replicates) {
  PanelInput replicated = panel;
  replicated.rows.clear();
  replicated.replicates.clear();
  for (int r = 0; r < replicates; ++r) {
    replicated.replicates.push_back(r);
  }
  std::vector<double> factors;  // of a configuration's losses, by replicate
  Random random(77);
  for (ConfigurationInput& configuration : replicated.configurations) {
    for (int r = 0; r < replicates; ++r) {
      factors.push_back(1 + 0.05 * Normal(random));
      if (!configuration.baseline || r == 0) {
        configuration.replicates.push_back(
            {r, r == 0
                    ? configuration.digest
                    : Digest::Of(absl::StrCat(configuration.digest, r)).hex()});
      }
    }
  }
  for (Row row : panel.rows) {
    const double loss = row.nll_sum - row.nll_fp_sum;
    const auto c = static_cast<size_t>(row.configuration);
    for (size_t r = 0; r < replicated.configurations[c].replicates.size();
         ++r) {
      row.replicate = static_cast<int>(r);
      row.nll_sum = row.nll_fp_sum +
                    loss * factors[c * static_cast<size_t>(replicates) + r] *
                        (1 + 0.02 * Normal(random));
      row.kl_sum = 0.5 * std::abs(row.nll_sum - row.nll_fp_sum);
      row.top1 = static_cast<double>(row.tokens - r);
      replicated.rows.push_back(row);
    }
  }
  return replicated;
}

Row& RowAt(PanelInput& panel, int configuration, int language,
           const std::string& unit) {
  for (Row& row : panel.rows) {
    if (row.configuration == configuration && row.language == language &&
        row.unit == unit) {
      return row;
    }
  }
  QSWEEP_CHECK(false);
}

}  // namespace qsweep::analysis
