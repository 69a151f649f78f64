#include "worker/engine/cpu_machine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/sweep/row_units.h"

namespace qsweep {
namespace {

using kernels::kTileRows;
using kernels::RoundUp;

// Rows one thread takes through a layer at a time, up to kMaxUnitRows: enough
// to fill product tiles, few enough that no thread waits long for the last one.
constexpr int64_t kMinUnitRows = 256;
constexpr int64_t kUnitsPerThread = 16;

constexpr int64_t kNormRows = 256;  // of a final norm, per item

}  // namespace

absl::StatusOr<std::unique_ptr<PassMachine>> CpuMachine::Start(
    PassContext context, bool native_bf16, ThreadPool& pool) {
  int64_t rows = 0;
  for (const std::span<const int32_t> ids : context.pass.documents) {
    rows += static_cast<int64_t>(ids.size()) - 1;
  }
  QSWEEP_ASSIGN_OR_RETURN(
      StateStore states,
      StateStore::Create(
          context.states_in_file,
          RoundUp(rows, kTileRows) *
              kernels::RowStride(context.checkpoint.config().hidden_size),
          context.state_directory));
  const ProductMode mode = {
      .compute = context.compute,
      .native = native_bf16 && context.compute == Compute::kBf16,
      .order = context.order};
  return std::unique_ptr<PassMachine>(
      new CpuMachine(std::move(context), mode, std::move(states), pool));
}

CpuMachine::CpuMachine(PassContext context, const ProductMode& mode,
                       StateStore states, ThreadPool& pool)
    : context_(std::move(context)),
      mode_(mode),
      config_(context_.checkpoint.config()),
      plan_(context_.plan),
      pool_(pool),
      rows_(context_.pass),
      stride_(kernels::RowStride(config_.hidden_size)),
      rotary_(config_, rows_.longest),
      states_(std::move(states)),
      final_norms_done_(static_cast<size_t>(context_.num_slots)),
      final_norms_(plan_.final_norm.variants.size()),
      heads_(plan_.head.variants.size()),
      head_scorer_(stride_, pool) {
  for (int thread = 0; thread < pool_.num_threads(); ++thread) {
    runners_.emplace_back(config_, rotary_,
                          std::max(kMaxUnitRows, rows_.longest));
  }
}

absl::Status CpuMachine::Embed(int variant, int slot) {
  QSWEEP_ASSIGN_OR_RETURN(
      StageTensors tensors,
      StageTensors::Read(context_.checkpoint, context_.model, plan_.embedding,
                         pool_, context_.stop));
  QSWEEP_ASSIGN_OR_RETURN(
      const kernels::FloatBuffer table,
      std::move(tensors).Take(
          plan_.embedding.variants[static_cast<size_t>(variant)],
          context_.sources, pool_, context_.stop));
  final_norms_done_[static_cast<size_t>(slot)].reset();
  float* row = RowsOf(slot);
  for (const std::span<const int32_t> ids : context_.pass.documents) {
    for (const int32_t id : ids.first(ids.size() - 1)) {
      QSWEEP_CHECK(id >= 0 && id < config_.vocabulary_size);
      std::memcpy(row, table.data() + int64_t{id} * config_.hidden_size,
                  static_cast<size_t>(config_.hidden_size) * sizeof(float));
      row += stride_;
    }
  }
  return absl::OkStatus();
}

absl::Status CpuMachine::BeginLayer(int layer) {
  return layer_.Replace(context_.checkpoint, context_.model,
                        plan_.layers[static_cast<size_t>(layer)], pool_,
                        context_.stop);
}

// The next layer is read into the memory of this one.
void CpuMachine::EndLayer() {}

absl::Status CpuMachine::Advance(int layer, const TrieGroup& group) {
  const Stage& stage = plan_.layers[static_cast<size_t>(layer)];
  QSWEEP_RETURN_IF_ERROR(
      layer_.MakeBlock(stage.variants[static_cast<size_t>(group.variant)],
                       mode_, context_.sources, pool_, context_.stop, block_));
  const auto edges = static_cast<int64_t>(group.edges.size());
  const int64_t unit_rows = std::clamp(
      RoundUp(edges * rows_.count() / (pool_.num_threads() * kUnitsPerThread),
              kTileRows),
      kMinUnitRows, kMaxUnitRows);
  std::vector<Segment> segments;
  std::vector<int64_t> segment_rows;
  for (const TrieEdge& edge : group.edges) {
    float* const to = RowsOf(edge.to);
    const float* const from = RowsOf(edge.from);
    for (const PassRows::Document& document : rows_.documents) {
      segments.push_back({.from = from + document.first * stride_,
                          .to = to + document.first * stride_,
                          .rows = document.count});
      segment_rows.push_back(document.count);
    }
  }
  const std::vector<std::vector<size_t>> units =
      PackUnits(segment_rows, unit_rows, kTileRows);
  std::atomic<int64_t> advanced = 0;
  const std::string step = absl::StrCat("layer ", layer + 1, " of ",
                                        static_cast<int>(plan_.layers.size()));
  QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
      static_cast<int64_t>(units.size()), context_.stop,
      [&](int64_t unit, int thread) -> absl::Status {
        std::vector<Segment> mine;
        for (const size_t index : units[static_cast<size_t>(unit)]) {
          mine.push_back(segments[index]);
        }
        for (const Segment& segment : mine) {
          states_.WillNeed(segment.from, segment.rows * stride_);
        }
        absl::Status status = runners_[static_cast<size_t>(thread)].Run(
            block_, mine, stride_, context_.stop);
        if (!status.ok()) {
          return status;
        }
        for (const Segment& segment : mine) {
          states_.Release(segment.from, segment.rows * stride_);
          states_.Release(segment.to, segment.rows * stride_);
          advanced += segment.rows;
        }
        if (thread == 0) {
          context_.progress(
              work_done_ + static_cast<double>(advanced) * LayerWork(config_),
              step);
        }
        return absl::OkStatus();
      }));
  rows_advanced_ += advanced;
  work_done_ += static_cast<double>(advanced) * LayerWork(config_);
  context_.progress(work_done_, step);
  return absl::OkStatus();
}

// The head's tensor becomes one of its variants, so that no copy of it stays:
// the one that is not quantized, if it is wanted.
absl::Status CpuMachine::LoadHeads(std::vector<size_t> variants) {
  if (variants.empty()) {
    return absl::OkStatus();
  }
  const auto quantized = [this](size_t variant) {
    return plan_.head.variants[variant].front().has_value();
  };
  std::ranges::stable_partition(variants, quantized);
  QSWEEP_ASSIGN_OR_RETURN(
      StageTensors head, StageTensors::Read(context_.checkpoint, context_.model,
                                            plan_.head, pool_, context_.stop));
  const std::vector<int64_t>& shape = head.description(0).shape;
  for (const size_t variant : variants) {
    const StageVariant& schemes = plan_.head.variants[variant];
    QSWEEP_ASSIGN_OR_RETURN(
        kernels::FloatBuffer values,
        variant == variants.back()
            ? std::move(head).Take(schemes, context_.sources, pool_,
                                   context_.stop)
            : head.Make(schemes, context_.sources, pool_, context_.stop));
    heads_[variant] = Matrix(shape[0], shape[1], std::move(values), mode_);
  }
  return absl::OkStatus();
}

absl::Status CpuMachine::LoadHeadAndNorms(
    std::span<const SweepPlan::Leaf> leaves) {
  std::vector<size_t> heads;  // that are missing
  std::optional<StageTensors> norm;
  for (const SweepPlan::Leaf& leaf : leaves) {
    const auto head_variant = static_cast<size_t>(leaf.head_variant);
    if (heads_[head_variant].outputs() == 0 &&
        std::ranges::find(heads, head_variant) == heads.end()) {
      heads.push_back(head_variant);
    }
    const auto norm_variant = static_cast<size_t>(leaf.final_norm_variant);
    if (final_norms_[norm_variant].size() == 0) {
      if (!norm) {
        QSWEEP_ASSIGN_OR_RETURN(
            norm, StageTensors::Read(context_.checkpoint, context_.model,
                                     plan_.final_norm, pool_, context_.stop));
      }
      QSWEEP_ASSIGN_OR_RETURN(
          final_norms_[norm_variant],
          norm->Make(plan_.final_norm.variants[norm_variant], context_.sources,
                     pool_, context_.stop));
    }
  }
  return LoadHeads(std::move(heads));
}

absl::Status CpuMachine::Normalize(const float* from, int variant, float* to) {
  const kernels::RowKernels& kernels = kernels::BestRowKernels();
  const float* const gains = final_norms_[static_cast<size_t>(variant)].data();
  return pool_.ParallelFor(
      (rows_.count() + kNormRows - 1) / kNormRows, context_.stop,
      [&](int64_t item, int) {
        const int64_t end = std::min(rows_.count(), (item + 1) * kNormRows);
        for (int64_t r = item * kNormRows; r < end; ++r) {
          kernels.rms_norm(from + r * stride_, gains, config_.hidden_size,
                           static_cast<float>(config_.rms_eps),
                           to + r * stride_);
        }
        const int64_t first = item * kNormRows * stride_;
        const int64_t floats = end * stride_ - first;
        states_.Release(from + first, floats);
        states_.Release(to + first, floats);
        return absl::OkStatus();
      });
}

// Puts the final norm on every leaf: in the leaf's own slot, or in a copy where
// configurations that share the slot need different norms.
absl::Status CpuMachine::NormalizeLeaves(
    std::span<const SweepPlan::Leaf> leaves) {
  std::vector<std::optional<int>>& done = final_norms_done_;
  std::vector<std::optional<int>> own(done.size());  // variant, in the slot
  for (const SweepPlan::Leaf& leaf : leaves) {
    const auto slot = static_cast<size_t>(leaf.slot);
    if (done[slot]) {
      continue;
    }
    if (!own[slot]) {
      own[slot] = leaf.final_norm_variant;
      continue;
    }
    const bool known =
        *own[slot] == leaf.final_norm_variant ||
        std::any_of(copies_.begin(), copies_.end(), [&](const NormedCopy& c) {
          return c.slot == leaf.slot &&
                 c.final_norm_variant == leaf.final_norm_variant;
        });
    if (!known) {
      float* const rows = states_[done.size() + copies_.size()];
      copies_.push_back({.slot = leaf.slot,
                         .final_norm_variant = leaf.final_norm_variant,
                         .rows = rows});
      QSWEEP_RETURN_IF_ERROR(
          Normalize(RowsOf(leaf.slot), leaf.final_norm_variant, rows));
    }
  }
  for (size_t slot = 0; slot < done.size(); ++slot) {
    if (own[slot]) {
      float* const rows = states_[slot];
      QSWEEP_RETURN_IF_ERROR(Normalize(rows, *own[slot], rows));
      done[slot] = own[slot];
    }
  }
  return absl::OkStatus();
}

HeadInput CpuMachine::Input(const SweepPlan::Leaf& leaf) {
  HeadInput input = {.states = RowsOf(leaf.slot),
                     .head = &heads_[static_cast<size_t>(leaf.head_variant)]};
  if (final_norms_done_[static_cast<size_t>(leaf.slot)] !=
      leaf.final_norm_variant) {
    const auto copy =
        std::find_if(copies_.begin(), copies_.end(), [&](const NormedCopy& c) {
          return c.slot == leaf.slot &&
                 c.final_norm_variant == leaf.final_norm_variant;
        });
    QSWEEP_CHECK(copy != copies_.end());
    input.states = copy->rows;
  }
  return input;
}

absl::Status CpuMachine::Score(const SweepPlan::Leaf& baseline,
                               std::span<const Scored> configurations) {
  std::vector<SweepPlan::Leaf> leaves = {baseline};
  for (const Scored& scored : configurations) {
    leaves.push_back(scored.leaf);
  }
  layer_ = StageTensors();  // make room for the head
  block_ = BlockWeights();
  QSWEEP_RETURN_IF_ERROR(LoadHeadAndNorms(leaves));
  QSWEEP_RETURN_IF_ERROR(NormalizeLeaves(leaves));
  while (!configurations.empty()) {
    const size_t count = std::min(kScoredTogether, configurations.size());
    QSWEEP_RETURN_IF_ERROR(ScoreGroup(baseline, configurations.first(count)));
    configurations = configurations.subspan(count);
  }
  return absl::OkStatus();
}

struct CpuMachine::Group {
  std::span<const Scored> configurations;
  std::vector<size_t> set_of;  // per configuration: its set of scores
  std::vector<kernels::TokenScore> scores;   // [sets, rows]; set 0: baseline
  std::vector<std::atomic<bool>> tile_done;  // its scores are final
};

// Sums the documents whose rows are all final, in row order.
void CpuMachine::SumFinishedDocuments(Group& group) {
  const auto sums_of = [&](size_t c) -> std::vector<DocumentSums>& {
    return context_.pass
        .sums[static_cast<size_t>(group.configurations[c].configuration)];
  };
  for (size_t d = 0; d < rows_.documents.size(); ++d) {
    const PassRows::Document& document = rows_.documents[d];
    bool ready = !sums_of(0)[d].final;
    for (int64_t row = document.first / kTileRows * kTileRows;
         ready && row < document.first + document.count; row += kTileRows) {
      ready = group.tile_done[static_cast<size_t>(row / kTileRows)].load();
    }
    for (size_t c = 0; ready && c < group.configurations.size(); ++c) {
      DocumentSums& sums = sums_of(c)[d];
      const size_t first =
          group.set_of[c] * static_cast<size_t>(rows_.count()) +
          static_cast<size_t>(document.first);
      for (int64_t r = 0; r < document.count; ++r) {
        sums.Add(group.scores[first + static_cast<size_t>(r)]);
      }
      sums.final = true;
    }
  }
}

absl::Status CpuMachine::ScoreGroup(const SweepPlan::Leaf& baseline,
                                    std::span<const Scored> configurations) {
  // The baseline's own scores come first; equal leaves are scored once.
  Group group{.configurations = configurations};
  std::vector<SweepPlan::Leaf> leaves = {baseline};
  std::vector<HeadInput> inputs;
  for (const Scored& scored : configurations) {
    const auto it = std::find(leaves.begin(), leaves.end(), scored.leaf);
    group.set_of.push_back(static_cast<size_t>(it - leaves.begin()));
    if (it == leaves.end()) {
      leaves.push_back(scored.leaf);
      inputs.push_back(Input(scored.leaf));
    }
  }
  group.scores.resize(leaves.size() * static_cast<size_t>(rows_.count()));
  group.tile_done = std::vector<std::atomic<bool>>(
      static_cast<size_t>((rows_.count() + kTileRows - 1) / kTileRows));
  const double row_work =
      HeadWork(config_) * static_cast<double>(configurations.size());
  std::atomic<int64_t> rows_done = 0;
  QSWEEP_RETURN_IF_ERROR(head_scorer_.Score(
      Input(baseline), inputs, rows_.gold, group.scores, context_.stop,
      [&](int64_t tile, int thread) {
        for (const HeadInput& input : inputs) {
          states_.Release(input.states + tile * kTileRows * stride_,
                          kTileRows * stride_);
        }
        rows_done +=
            std::min<int64_t>(kTileRows, rows_.count() - tile * kTileRows);
        group.tile_done[static_cast<size_t>(tile)].store(true);
        if (thread == 0) {
          SumFinishedDocuments(group);
          context_.progress(
              work_done_ + static_cast<double>(rows_done) * row_work,
              "scoring");
        }
      }));
  SumFinishedDocuments(group);
  work_done_ += static_cast<double>(rows_.count()) * row_work;
  context_.progress(work_done_, "scoring");
  return absl::OkStatus();
}

}  // namespace qsweep
