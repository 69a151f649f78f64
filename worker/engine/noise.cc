#include "worker/engine/noise.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status_macros.h"
#include "worker/engine/pass_room.h"
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
  std::vector<size_t> chosen;  // documents of the task
  std::vector<int64_t> chosen_rows;
  int64_t num_rows = 0;
  for (size_t d = 0; d < prepared.documents.size(); ++d) {
    const TokenizedDocument& document = prepared.documents[d];
    const EngineRow& row = rows[d * (rows.size() / prepared.documents.size())];
    if (row.status == RowStatus::kOk && row.nonfinite == 0 &&
        (num_rows == 0 || num_rows + document.num_scored() <= kNoiseRows)) {
      chosen.push_back(d);
      chosen_rows.push_back(document.num_scored());
      num_rows += document.num_scored();
    }
  }
  if (chosen.empty()) {
    return std::nullopt;
  }
  const std::vector<Configuration> baseline = {
      prepared.configurations[static_cast<size_t>(prepared.baseline)]};
  const SweepPlan plan = PlanSweep(context.model, baseline);
  const Compute compute = baseline[0].compute;
  const PassRoom room = FindPassRoom(
      context.device, context.checkpoint.config(), context.model, plan, compute,
      /*naive=*/false, *std::ranges::max_element(chosen_rows),
      context.state_directory);
  const std::optional<PassPlan> cut =
      PlanPasses(chosen_rows, room.uses, room.limits);
  if (!cut) {
    return std::nullopt;
  }
  Pass pass;
  std::vector<double> usual;                    // nats
  for (const size_t i : cut->passes.front()) {  // some are enough
    pass.documents.emplace_back(prepared.documents[chosen[i]].ids);
    usual.push_back(
        rows[chosen[i] * (rows.size() / prepared.documents.size())].nll_fp_sum);
  }
  pass.sums.assign(1, std::vector<DocumentSums>(usual.size()));
  QSWEEP_ASSIGN_OR_RETURN(
      const std::unique_ptr<PassMachine> machine,
      context.device.StartPass({.checkpoint = context.checkpoint,
                                .model = context.model,
                                .plan = plan,
                                .sources = context.sources,
                                .compute = compute,
                                .order = SumOrder::kTwoParts,
                                .stop = context.stop,
                                .num_slots = NumSlots(plan, /*naive=*/false),
                                .states_in_file = cut->in_file,
                                .state_directory = context.state_directory,
                                .pass = pass,
                                .progress = context.progress}));
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
