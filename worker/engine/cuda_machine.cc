#include "worker/engine/cuda_machine.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/engine/cuda_block.h"
#include "worker/engine/cuda_head.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/cuda_stages.h"
#include "worker/engine/cuda_weights.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

using kernels::FloatType;

constexpr int64_t kFloat = sizeof(float);

// What the library and the allocator take besides: workspaces, rounding.
constexpr int64_t kReserveBytes = int64_t{512} << 20;

FloatType TypeOf(Compute compute) {
  return compute == Compute::kFp16 ? FloatType::kFp16 : FloatType::kFp32;
}

class CudaMachine : public PassMachine {
 public:
  explicit CudaMachine(PassContext context)
      : context_(std::move(context)),
        config_(context_.checkpoint.config()),
        plan_(context_.plan),
        type_(TypeOf(context_.compute)),
        rows_(context_.pass),
        unit_rows_(DeviceBlockRunner::UnitRows(config_, type_)),
        loader_(context_.checkpoint, context_.model, context_.stop),
        maker_(context_.model, context_.sources, context_.stop),
        runner_(config_, type_),
        head_scorer_(config_, type_),
        final_norms_(plan_.final_norm.variants.size()),
        heads_(plan_.head.variants.size()) {}

  absl::Status Start();

  absl::Status Embed(int variant, int slot) override;
  absl::Status BeginLayer(int layer) override;
  absl::Status Advance(int layer, const TrieGroup& group) override;
  void EndLayer() override;
  absl::Status Score(const SweepPlan::Leaf& baseline,
                     std::span<const Scored> configurations) override;
  int64_t rows_advanced() const override { return rows_advanced_; }

 private:
  absl::Status Stopped() const;
  float* SlotOf(int slot) const;
  size_t StatesTogether(size_t states) const;
  std::vector<DeviceUnit> CutUnits(const TrieGroup& group) const;

  absl::Status LoadHead(std::span<const SweepPlan::Leaf> leaves);
  absl::Status ScoreGroup(const SweepPlan::Leaf& baseline,
                          std::span<const Scored> configurations);

  const PassContext context_;
  const ModelConfig& config_;
  const SweepPlan& plan_;
  const FloatType type_;
  const PassRows rows_;
  const int64_t unit_rows_;
  StageLoader loader_;
  WeightMaker maker_;
  DeviceBlockRunner runner_;
  DeviceHeadScorer head_scorer_;

  DeviceBuffer slots_;  // [slots, rows, hidden] fp32
  DeviceBuffer ids_;    // [rows] int64: tokens to embed
  DeviceBuffer gold_;   // [rows] int32
  std::optional<DeviceStage> layer_;
  DeviceBlock block_;
  std::vector<DeviceTensor> final_norms_;  // per variant
  std::vector<DeviceTensor> heads_;        // per variant
  double work_done_ = 0;
  int64_t rows_advanced_ = 0;
};

absl::Status CudaMachine::Start() {
  if (config_.head_dim % kHeadDimStep != 0) {
    return MakeError(
        kUnsupportedArchitecture,
        absl::StrCat("On a GPU heads have a multiple of ", kHeadDimStep,
                     " values, not ", config_.head_dim, "."),
        "head_dim", "Use --device cpu.");
  }
  // The largest piece first, in one, before others cut memory up.
  ReleaseUnusedMemory();
  QSWEEP_ASSIGN_OR_RETURN(
      slots_, DeviceBuffer::Allocate(context_.num_slots * rows_.count() *
                                     CudaStateBytes(config_)));
  std::vector<int64_t> ids;
  for (const std::span<const int32_t> document : context_.pass.documents) {
    for (const int32_t id : document.first(document.size() - 1)) {
      QSWEEP_CHECK(id >= 0 && id < config_.vocabulary_size);
      ids.push_back(id);
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(ids_, DeviceBuffer::Of(ids));
  QSWEEP_ASSIGN_OR_RETURN(gold_, DeviceBuffer::Of(rows_.gold));
  return runner_.Start(rows_, std::max(unit_rows_, rows_.longest));
}

absl::Status CudaMachine::Stopped() const {
  return context_.stop.stop_requested()
             ? absl::CancelledError("The run was cancelled.")
             : absl::OkStatus();
}

float* CudaMachine::SlotOf(int slot) const {
  return slots_.floats() + slot * rows_.count() * config_.hidden_size;
}

absl::Status CudaMachine::Embed(int variant, int slot) {
  QSWEEP_RETURN_IF_ERROR(Stopped());
  QSWEEP_ASSIGN_OR_RETURN(const DeviceStage stage,
                          loader_.Take(plan_.embedding));
  if (!plan_.layers.empty()) {
    loader_.Prefetch(plan_.layers[0]);
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const DeviceTensor table,
      maker_.MakeTensor(stage,
                        plan_.embedding.variants[static_cast<size_t>(variant)],
                        FloatType::kFp32));
  QSWEEP_RETURN_IF_ERROR(GatherOnDevice(
      static_cast<const float*>(table.matrix.values), table.matrix.outputs,
      table.matrix.inputs, static_cast<const int64_t*>(ids_.data()),
      rows_.count(), SlotOf(slot)));
  return Synchronize(ComputeStream());  // then the stage may go
}

absl::Status CudaMachine::BeginLayer(int layer) {
  QSWEEP_RETURN_IF_ERROR(Stopped());
  const auto index = static_cast<size_t>(layer);
  QSWEEP_ASSIGN_OR_RETURN(layer_, loader_.Take(plan_.layers[index]));
  if (index + 1 < plan_.layers.size()) {
    loader_.Prefetch(plan_.layers[index + 1]);
  }
  return absl::OkStatus();
}

// The last Advance has waited for the stream, so nothing reads the stage.
void CudaMachine::EndLayer() { layer_.reset(); }

// So many states, with all their documents, that padding them to whole tiles
// costs the least.
size_t CudaMachine::StatesTogether(size_t states) const {
  size_t best = 1;
  double best_share = 0;  // of the padded rows
  for (size_t n = 1; n <= states; ++n) {
    const int64_t rows = static_cast<int64_t>(n) * rows_.count();
    if (rows > unit_rows_) {
      break;
    }
    const double share =
        static_cast<double>(rows) /
        static_cast<double>(kernels::RoundUp(rows, kDeviceTileRows));
    if (share >= best_share) {
      best = n;
      best_share = share;
    }
  }
  return best;
}

// All documents of some states, or some documents of one.
std::vector<DeviceUnit> CudaMachine::CutUnits(const TrieGroup& group) const {
  std::vector<DeviceUnit::State> states;
  for (const TrieEdge& edge : group.edges) {
    states.push_back({.from = SlotOf(edge.from), .to = SlotOf(edge.to)});
  }
  const std::span<const PassRows::Document> documents = rows_.documents;
  std::vector<DeviceUnit> units;
  if (rows_.count() <= unit_rows_) {
    for (size_t first = 0; first < states.size();) {
      const size_t together = StatesTogether(states.size() - first);
      const auto begin = states.begin() + static_cast<int64_t>(first);
      units.push_back(
          {.states = {begin, begin + static_cast<int64_t>(together)},
           .documents = documents});
      first += together;
    }
    return units;
  }
  for (const DeviceUnit::State& state : states) {
    size_t first = 0;
    int64_t rows = 0;
    for (size_t d = 0; d <= documents.size(); ++d) {
      const bool full = d == documents.size() ||
                        (d > first && rows + documents[d].count > unit_rows_);
      if (full) {
        const int64_t at = documents[first].first * config_.hidden_size;
        units.push_back(
            {.states = {{.from = state.from + at, .to = state.to + at}},
             .documents = documents.subspan(first, d - first)});
        first = d;
        rows = 0;
      }
      rows += d < documents.size() ? documents[d].count : 0;
    }
  }
  return units;
}

absl::Status CudaMachine::Advance(int layer, const TrieGroup& group) {
  const Stage& stage = plan_.layers[static_cast<size_t>(layer)];
  QSWEEP_RETURN_IF_ERROR(maker_.MakeBlock(
      *layer_, stage.variants[static_cast<size_t>(group.variant)], type_,
      block_));
  const std::string step = absl::StrCat("layer ", layer + 1, " of ",
                                        static_cast<int>(plan_.layers.size()));
  for (const DeviceUnit& unit : CutUnits(group)) {
    QSWEEP_RETURN_IF_ERROR(runner_.Run(block_, unit));
    // Otherwise the launches would run far ahead of the GPU, and neither
    // progress nor a stop would mean anything.
    QSWEEP_RETURN_IF_ERROR(Synchronize(ComputeStream()));
    rows_advanced_ += unit.rows();
    work_done_ += static_cast<double>(unit.rows()) * LayerWork(config_);
    context_.progress(work_done_, step);
    QSWEEP_RETURN_IF_ERROR(Stopped());
  }
  return absl::OkStatus();
}

absl::Status CudaMachine::LoadHead(std::span<const SweepPlan::Leaf> leaves) {
  std::optional<DeviceStage> head;
  std::optional<DeviceStage> norm;
  for (const SweepPlan::Leaf& leaf : leaves) {
    const auto head_variant = static_cast<size_t>(leaf.head_variant);
    if (heads_[head_variant].memory.size() == 0) {
      if (!head) {
        QSWEEP_ASSIGN_OR_RETURN(head, loader_.Take(plan_.head));
      }
      QSWEEP_ASSIGN_OR_RETURN(
          heads_[head_variant],
          maker_.MakeTensor(*head, plan_.head.variants[head_variant], type_));
    }
    const auto norm_variant = static_cast<size_t>(leaf.final_norm_variant);
    if (final_norms_[norm_variant].memory.size() == 0) {
      if (!norm) {
        QSWEEP_ASSIGN_OR_RETURN(norm, loader_.Take(plan_.final_norm));
      }
      QSWEEP_ASSIGN_OR_RETURN(
          final_norms_[norm_variant],
          maker_.MakeTensor(*norm, plan_.final_norm.variants[norm_variant],
                            FloatType::kFp32));
    }
  }
  return Synchronize(ComputeStream());  // then the stages may go
}

absl::Status CudaMachine::Score(const SweepPlan::Leaf& baseline,
                                std::span<const Scored> configurations) {
  std::vector<SweepPlan::Leaf> leaves = {baseline};
  for (const Scored& scored : configurations) {
    leaves.push_back(scored.leaf);
  }
  // No layer is in work: its weights make room for the head's.
  block_ = DeviceBlock();
  QSWEEP_RETURN_IF_ERROR(LoadHead(leaves));
  maker_.Release();
  const auto together =
      static_cast<size_t>(DeviceHeadScorer::ScoredTogether(config_, type_));
  while (!configurations.empty()) {
    const size_t count = std::min(together, configurations.size());
    QSWEEP_RETURN_IF_ERROR(ScoreGroup(baseline, configurations.first(count)));
    configurations = configurations.subspan(count);
  }
  return absl::OkStatus();
}

absl::Status CudaMachine::ScoreGroup(const SweepPlan::Leaf& baseline,
                                     std::span<const Scored> configurations) {
  // The baseline's own scores come first; equal leaves are scored once.
  std::vector<SweepPlan::Leaf> leaves = {baseline};
  std::vector<size_t> leaf_of;  // per configuration
  for (const Scored& scored : configurations) {
    const auto it = std::find(leaves.begin(), leaves.end(), scored.leaf);
    leaf_of.push_back(static_cast<size_t>(it - leaves.begin()));
    if (it == leaves.end()) {
      leaves.push_back(scored.leaf);
    }
  }
  std::vector<DeviceHeadInput> inputs;
  for (const SweepPlan::Leaf& leaf : leaves) {
    inputs.push_back(
        {.rows = SlotOf(leaf.slot),
         .gains = static_cast<const float*>(
             final_norms_[static_cast<size_t>(leaf.final_norm_variant)]
                 .matrix.values),
         .head = heads_[static_cast<size_t>(leaf.head_variant)].matrix});
  }
  const auto num_rows = static_cast<size_t>(rows_.count());
  std::vector<kernels::TokenScore> scores(leaves.size() * num_rows);
  int64_t scored_rows = 0;
  size_t document = 0;  // the first that is not summed
  return head_scorer_.Score(
      inputs, static_cast<const int32_t*>(gold_.data()), rows_.count(), scores,
      context_.stop, [&](int64_t end) {
        // Documents that end there, in row order.
        for (; document < rows_.documents.size(); ++document) {
          const PassRows::Document& rows = rows_.documents[document];
          if (rows.first + rows.count > end) {
            break;
          }
          for (size_t c = 0; c < configurations.size(); ++c) {
            const auto configuration =
                static_cast<size_t>(configurations[c].configuration);
            DocumentSums& sums = context_.pass.sums[configuration][document];
            const kernels::TokenScore* const first =
                scores.data() + leaf_of[c] * num_rows + rows.first;
            for (int64_t r = 0; r < rows.count; ++r) {
              sums.Add(first[r]);
            }
            sums.final = true;
          }
        }
        work_done_ += static_cast<double>(end - scored_rows) *
                      HeadWork(config_) *
                      static_cast<double>(configurations.size());
        scored_rows = end;
        context_.progress(work_done_, "scoring");
      });
}

}  // namespace

absl::StatusOr<std::unique_ptr<PassMachine>> MakeCudaMachine(
    PassContext context) {
  auto machine = std::make_unique<CudaMachine>(std::move(context));
  QSWEEP_RETURN_IF_ERROR(machine->Start());
  return machine;
}

int64_t CudaStateBytes(const ModelConfig& config) {
  return config.hidden_size * kFloat;
}

int64_t CudaWorkingBytes(const ModelConfig& config,
                         const ModelDescription& model, const SweepPlan& plan,
                         Compute compute, int64_t longest_rows) {
  const FloatType type = TypeOf(compute);
  int64_t layer = 0;    // elements
  int64_t largest = 0;  // of a tensor inside the layers
  int64_t outside = 0;  // of the embedding or the head
  for (const TensorDescription& tensor : model.tensors) {
    if (tensor.layer == 0) {
      layer += tensor.num_elements();
      largest = std::max(largest, tensor.num_elements());
    } else if (tensor.layer < 0) {
      outside = std::max(outside, tensor.num_elements());
    }
  }
  // Two stages as stored, at most fp32; a variant; one tensor before rounding,
  // and a workspace that HQQ's groups may need for it.
  const int64_t layers =
      2 * layer * kFloat + layer * BytesOf(type) + 2 * largest * kFloat;
  // The head's stage, its variants, which naive runs keep, and one before
  // rounding; the embedding takes as much.
  const int64_t head =
      2 * outside * kFloat +
      static_cast<int64_t>(plan.head.variants.size()) * outside * BytesOf(type);
  return layers + head + DeviceHeadScorer::Bytes(config, type) +
         DeviceBlockRunner::UnitBytes(config, type, longest_rows) +
         kReserveBytes;
}

}  // namespace qsweep
