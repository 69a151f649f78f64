#include "coordinator/analysis/cell_estimates.h"

#include <numbers>
#include <optional>

#include "coordinator/analysis/ratio_bootstrap.h"

namespace qsweep::analysis {
namespace {

constexpr double kLn2 = std::numbers::ln2;

// Collects the estimands of some cells, then writes every estimate to its
// place.
class CellEstimator {
 public:
  CellEstimator(const CellContext& context, PanelResult& result)
      : context_(context),
        result_(result),
        bootstrap_(context.resamples, context.confidence),
        languages_(context.panel.languages.size()) {
    const size_t units = static_cast<size_t>(context.table.num_units());
    bits_ = bootstrap_.AddColumn(std::vector<double>(units, kLn2));
    for (size_t l = 0; l < languages_.size(); ++l) {
      AddLanguage(static_cast<int>(l));
    }
  }

  void AddConfiguration(int configuration);

  void Run(const Work& work) {
    const std::vector<Estimate> estimates = bootstrap_.Run(work);
    for (size_t i = 0; i < places_.size(); ++i) {
      *places_[i] = estimates[i];
    }
  }

 private:
  // Columns that the configurations of a language share.
  struct LanguageColumns {
    int tokens = 0;
    int bits_of_bytes = 0;  // ln 2 x bytes scored
    int nll_fp = 0;
    std::optional<int> none;     // dNLL
    std::optional<int> average;  // dNLL of the average single layer
  };

  void AddLanguage(int language);
  // delta: columns of dNLL of one configuration; nothing where its status is
  // not kOk. [languages]
  using DeltaColumns = std::vector<std::optional<int>>;
  void AddLosses(CellResult& cell, int configuration, int language,
                 const DeltaColumns& delta);
  void AddRecoveries(CellResult& cell, int configuration, int language,
                     const DeltaColumns& delta);
  void AddGaps(CellResult& cell, int configuration, int language,
               const DeltaColumns& delta);
  EstimateStatus RecoveryStatus(int configuration, int language) const;
  EstimateStatus GapStatus(int configuration, int language) const;

  // Either the estimand, or the reason why there is none.
  void Put(Estimate& place, EstimateStatus status, const Estimand& estimand) {
    if (status != EstimateStatus::kOk) {
      place = {.status = status};
      return;
    }
    bootstrap_.AddEstimand(estimand);
    places_.push_back(&place);
  }
  EstimateStatus IfScored(EstimateStatus status) const {
    return status == EstimateStatus::kOk && !context_.every_token_scored
               ? EstimateStatus::kUndefined
               : status;
  }

  const CellContext& context_;
  PanelResult& result_;
  RatioBootstrap bootstrap_;
  int bits_ = 0;  // ln 2 for every unit
  std::vector<LanguageColumns> languages_;
  std::vector<Estimate*> places_;  // parallel to the estimands
};

void CellEstimator::AddLanguage(int language) {
  const UnitTable& table = context_.table;
  if (!table.present(language)) {
    return;
  }
  LanguageColumns& columns = languages_[static_cast<size_t>(language)];
  const auto add = [&](double factor, auto field) {
    return bootstrap_.AddColumn(
        table.Column(table.anchor(), language, [&](const Row& row) {
          return factor * static_cast<double>(row.*field);
        }));
  };
  columns.tokens = add(1, &Row::tokens);
  columns.bits_of_bytes = add(kLn2, &Row::bytes_scored);
  columns.nll_fp = add(1, &Row::nll_fp_sum);
  if (context_.none >= 0 &&
      CellStatus(context_, context_.none, language) == EstimateStatus::kOk) {
    columns.none =
        bootstrap_.AddColumn(DeltaNll(table, context_.none, language));
  }
  const std::vector<double>& average =
      context_.average[static_cast<size_t>(language)];
  if (!average.empty()) {
    columns.average = bootstrap_.AddColumn(average);
  }
}

void CellEstimator::AddConfiguration(int configuration) {
  DeltaColumns delta;
  for (size_t l = 0; l < languages_.size(); ++l) {
    const int language = static_cast<int>(l);
    std::optional<int> column;
    if (CellStatus(context_, configuration, language) == EstimateStatus::kOk) {
      column = configuration == context_.none
                   ? languages_[l].none
                   : std::optional<int>(bootstrap_.AddColumn(
                         DeltaNll(context_.table, configuration, language)));
    }
    delta.push_back(column);
  }
  ConfigurationResult& out =
      result_.configurations[static_cast<size_t>(configuration)];
  for (size_t l = 0; l < languages_.size(); ++l) {
    const int language = static_cast<int>(l);
    AddLosses(out.cells[l], configuration, language, delta);
    AddRecoveries(out.cells[l], configuration, language, delta);
    AddGaps(out.cells[l], configuration, language, delta);
  }
}

void CellEstimator::AddLosses(CellResult& cell, int configuration, int language,
                              const DeltaColumns& delta) {
  const LanguageColumns& columns = languages_[static_cast<size_t>(language)];
  const EstimateStatus status = CellStatus(context_, configuration, language);
  const int x = delta[static_cast<size_t>(language)].value_or(0);
  Put(cell.delta_nll, status, {.first = {x, columns.tokens}});
  Put(cell.bits_per_unit, IfScored(status), {.first = {x, bits_}});
  Put(cell.relative_loss, IfScored(status), {.first = {x, columns.nll_fp}});
  Put(cell.bits_per_byte, IfScored(status),
      {.first = {x, columns.bits_of_bytes}});
}

EstimateStatus CellEstimator::RecoveryStatus(int configuration,
                                             int language) const {
  const size_t l = static_cast<size_t>(language);
  const EstimateStatus status = CellStatus(context_, configuration, language);
  if (status != EstimateStatus::kOk) {
    return status;
  }
  if (configuration == context_.none) {
    return EstimateStatus::kAnchor;
  }
  if (context_.languages[l] != EstimateStatus::kOk) {
    return context_.languages[l];
  }
  return context_.recovery[l];
}

void CellEstimator::AddRecoveries(CellResult& cell, int configuration,
                                  int language, const DeltaColumns& delta) {
  const LanguageColumns& columns = languages_[static_cast<size_t>(language)];
  const EstimateStatus status = RecoveryStatus(configuration, language);
  const int x = delta[static_cast<size_t>(language)].value_or(0);
  const Ratio lost = {x, columns.none.value_or(0)};
  Put(cell.recovery, status, {.constant = 1, .sign = -1, .first = lost});
  Put(cell.recovery_contrast,
      status == EstimateStatus::kOk && !columns.average
          ? EstimateStatus::kUndefined
          : status,
      {.sign = -1,
       .first = lost,
       .subtract = {{columns.average.value_or(0), lost.denominator}}});
  const int reference = context_.panel.reference;
  if (status != EstimateStatus::kOk || language == reference) {
    Put(cell.interaction,
        status != EstimateStatus::kOk ? status : EstimateStatus::kReference,
        {});
    return;
  }
  const EstimateStatus of_reference =
      reference < 0 ? EstimateStatus::kReferenceMissing
                    : RecoveryStatus(configuration, reference);
  const size_t r = static_cast<size_t>(reference < 0 ? language : reference);
  Put(cell.interaction,
      of_reference == EstimateStatus::kUnlearned
          ? EstimateStatus::kReferenceUnlearned
      : of_reference == EstimateStatus::kOk ||
              of_reference == EstimateStatus::kUndefined ||
              of_reference == EstimateStatus::kBelowNoise
          ? of_reference
          : EstimateStatus::kReferenceMissing,
      {.sign = -1,
       .first = lost,
       .subtract = {{delta[r].value_or(0), languages_[r].none.value_or(0)}}});
}

EstimateStatus CellEstimator::GapStatus(int configuration, int language) const {
  const EstimateStatus status = CellStatus(context_, configuration, language);
  const int reference = context_.panel.reference;
  if (status != EstimateStatus::kOk) {
    return status;
  }
  if (language == reference) {
    return EstimateStatus::kReference;
  }
  if (context_.languages[static_cast<size_t>(language)] !=
      EstimateStatus::kOk) {
    return context_.languages[static_cast<size_t>(language)];
  }
  if (reference < 0) {
    return EstimateStatus::kReferenceMissing;
  }
  if (context_.languages[static_cast<size_t>(reference)] ==
      EstimateStatus::kUnlearned) {
    return EstimateStatus::kReferenceUnlearned;
  }
  return CellStatus(context_, configuration, reference) == EstimateStatus::kOk
             ? EstimateStatus::kOk
             : EstimateStatus::kReferenceMissing;
}

void CellEstimator::AddGaps(CellResult& cell, int configuration, int language,
                            const DeltaColumns& delta) {
  const EstimateStatus status = GapStatus(configuration, language);
  const EstimateStatus scored = IfScored(status);
  const size_t l = static_cast<size_t>(language);
  const size_t r = static_cast<size_t>(
      status == EstimateStatus::kOk ? context_.panel.reference : language);
  const LanguageColumns& own = languages_[l];
  const LanguageColumns& other = languages_[r];
  const int x = delta[l].value_or(0);
  const int y = delta[r].value_or(0);
  Put(cell.gap_delta_nll, status,
      {.first = {x, own.tokens}, .subtract = {{y, other.tokens}}});
  Put(cell.gap_bits_per_unit, scored,
      {.first = {x, bits_}, .subtract = {{y, bits_}}});
  Put(cell.gap_relative_loss, scored,
      {.first = {x, own.nll_fp}, .subtract = {{y, other.nll_fp}}});
  Put(cell.gap_bits_per_byte, scored,
      {.first = {x, own.bits_of_bytes},
       .subtract = {{y, other.bits_of_bytes}}});
  const EstimateStatus anchored = scored == EstimateStatus::kOk && !other.none
                                      ? EstimateStatus::kUndefined
                                      : scored;
  const int z = other.none.value_or(0);
  Put(cell.anchored_gap_bits_per_unit, anchored,
      {.first = {x, bits_}, .subtract = {{y, bits_}, {z, bits_}}});
  Put(cell.anchored_gap_relative_loss, anchored,
      {.first = {x, own.nll_fp},
       .subtract = {{y, other.nll_fp}, {z, other.nll_fp}}});
}

}  // namespace

EstimateStatus CellStatus(const CellContext& context, int configuration,
                          int language) {
  if (context.panel.configurations[static_cast<size_t>(configuration)]
          .baseline) {
    return EstimateStatus::kBaseline;
  }
  // A language whose baseline is not finite has no differences.
  if (context.languages[static_cast<size_t>(language)] ==
      EstimateStatus::kNonfinite) {
    return EstimateStatus::kNonfinite;
  }
  return context.table.status(configuration, language);
}

std::vector<double> DeltaNll(const UnitTable& table, int configuration,
                             int language) {
  return table.Column(configuration, language, [](const Row& row) {
    return row.nll_sum - row.nll_fp_sum;
  });
}

void EstimateCells(const CellContext& context,
                   std::span<const int> configurations, const Work& work,
                   PanelResult& result) {
  CellEstimator estimator(context, result);
  for (const int configuration : configurations) {
    estimator.AddConfiguration(configuration);
  }
  estimator.Run(work);
}

}  // namespace qsweep::analysis
