#include "worker/engine/noise.h"

#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status_macros.h"
#include "worker/engine/pass.h"
#include "worker/sweep/executor.h"
#include "worker/sweep/pass_plan.h"
#include "worker/sweep/trie.h"

namespace qsweep {

absl::StatusOr<std::optional<EngineNoise>> MeasureNoise(
    const NoiseContext& context, const PreparedTask& prepared,
    std::span<const EngineRow> rows) {
  if (rows.empty()) {
    return std::nullopt;
  }
  Pass pass;
  std::vector<double> usual;  // nats
  int64_t num_rows = 0;
  for (size_t d = 0; d < prepared.documents.size(); ++d) {
    const TokenizedDocument& document = prepared.documents[d];
    const EngineRow& row = rows[d * (rows.size() / prepared.documents.size())];
    if (row.status == RowStatus::kOk && row.nonfinite == 0 &&
        (num_rows == 0 || num_rows + document.num_scored() <= kNoiseRows)) {
      pass.documents.emplace_back(document.ids);
      usual.push_back(row.nll_fp_sum);
      num_rows += document.num_scored();
    }
  }
  if (usual.empty()) {
    return std::nullopt;
  }
  const std::vector<Configuration> baseline = {
      prepared.configurations[static_cast<size_t>(prepared.baseline)]};
  const SweepPlan plan = PlanSweep(context.model, baseline);
  pass.sums.assign(1, std::vector<DocumentSums>(usual.size()));
  const bool files =
      context.device.KeepsStatesInFiles() && !context.state_directory.empty();
  QSWEEP_ASSIGN_OR_RETURN(
      const std::unique_ptr<PassMachine> machine,
      context.device.StartPass(
          {.checkpoint = context.checkpoint,
           .model = context.model,
           .plan = plan,
           .sources = context.sources,
           .compute = baseline[0].compute,
           .order = SumOrder::kTwoParts,
           .stop = context.stop,
           .num_slots = plan.trie.num_slots,
           .states_in_file = std::vector<bool>(
               StateUses(plan, /*naive=*/false).size(), files),
           .state_directory = context.state_directory,
           .pass = pass,
           .progress = [](double, const std::string&) {}}));
  QSWEEP_RETURN_IF_ERROR(RunLayerMajor(plan, 0, *machine));
  EngineNoise noise;
  double squares = 0;
  for (size_t d = 0; d < usual.size(); ++d) {
    const DocumentSums& sums = pass.sums[0][d];
    const double moved = sums.nll_fp - usual[d];
    squares += moved * moved;
    noise.tokens += sums.tokens;
  }
  noise.documents = usual.size();
  noise.nll_per_token = std::sqrt(squares) / static_cast<double>(noise.tokens);
  return noise;
}

}  // namespace qsweep
