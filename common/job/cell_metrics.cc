#include "common/job/cell_metrics.h"

namespace qsweep {
namespace {

v1::Estimate Plain(bool present, double value) {
  v1::Estimate estimate;
  if (present) {
    estimate.set_value(value);
  }
  return estimate;
}

}  // namespace

std::vector<CellMetric> MetricsOf(const v1::CellResult& cell) {
  std::vector<CellMetric> metrics = {
      {"ppl", false, Plain(cell.has_ppl(), cell.ppl())},
      {"deg_pct", false,
       Plain(cell.has_degradation_percent(), cell.degradation_percent())},
      {"disparity", false, Plain(cell.has_disparity(), cell.disparity())},
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
      {"kl", false, Plain(cell.has_kl_per_token(), cell.kl_per_token())},
      {"top1", true, Plain(cell.has_top1_agreement(), cell.top1_agreement())},
      {"delta_nll_sd", false,
       Plain(cell.has_delta_nll_spread(),
             cell.delta_nll_spread().standard_deviation())},
      {"recovery_sd", false,
       Plain(cell.has_recovery_spread(),
             cell.recovery_spread().standard_deviation())},
  };
  std::erase_if(metrics, [](const CellMetric& metric) {
    return !metric.estimate.has_value() && metric.estimate.status().empty();
  });
  return metrics;
}

}  // namespace qsweep
