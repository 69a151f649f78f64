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
#include "worker/engine/cuda_check.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/cuda_weights.h"
#include "worker/engine/rotary.h"
#include "worker/kernels/decoder_rows.h"
#include "worker/kernels/head_row.h"
#include "worker/kernels/head_stats.h"

namespace qsweep {
namespace {

using kernels::FloatType;
using kernels::HeadRow;

// Rows that go through a layer together: two tiles of the products, and buffers
// of a size that is no matter beside the weights.
constexpr int64_t kUnitRows = 2 * kDeviceTileRows;

// Of the vocabulary at a time.
constexpr int64_t kHeadColumns = 8192;

// For the final states of the configurations that are scored together.
constexpr int64_t kNormedBytes = int64_t{512} << 20;
constexpr int64_t kMaxScoredTogether = 64;

constexpr int64_t kFloat = sizeof(float);

// What the library and the allocator take besides: workspaces, rounding.
constexpr int64_t kReserveBytes = int64_t{512} << 20;

int64_t RoundUp(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

FloatType TypeOf(Compute compute) {
  return compute == Compute::kFp16 ? FloatType::kFp16 : FloatType::kFp32;
}

int64_t QuerySize(const ModelConfig& config) {
  return int64_t{config.heads} * config.head_dim;
}

int64_t QkvSize(const ModelConfig& config) {
  return int64_t{config.heads + 2 * config.kv_heads} * config.head_dim;
}

int64_t UnitBytesPerRow(const ModelConfig& config, FloatType type) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  return BytesOf(type) * (hidden + QuerySize(config) + intermediate) +
         kFloat * (QkvSize(config) + 2 * hidden + 2 * intermediate);
}

int64_t ScoredTogether(const ModelConfig& config, FloatType type) {
  return std::clamp<int64_t>(
      kNormedBytes / (kDeviceTileRows * config.hidden_size * BytesOf(type)), 4,
      kMaxScoredTogether);
}

absl::Status Launched(int error) {
  return error == 0 ? absl::OkStatus()
                    : MakeError(kDeviceFailed,
                                absl::StrCat("A kernel failed with CUDA error ",
                                             error, "."));
}

absl::StatusOr<DeviceBuffer> OnDevice(const void* values, int64_t bytes) {
  QSWEEP_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Allocate(bytes));
  QSWEEP_RETURN_IF_ERROR(CopyToDevice(buffer.data(), values, bytes));
  return buffer;
}

template <typename T>
absl::StatusOr<DeviceBuffer> OnDevice(const std::vector<T>& values) {
  return OnDevice(values.data(),
                  static_cast<int64_t>(values.size() * sizeof(T)));
}

// Buffers of the rows that are inside a layer, [rows, *].
struct UnitBuffers {
  DeviceBuffer normed;   // [hidden], as products read it
  DeviceBuffer qkv;      // [q k v]
  DeviceBuffer context;  // [q], as products read it
  DeviceBuffer delta;    // [hidden]: what a sub-layer adds
  DeviceBuffer hidden;   // [hidden]: after attention
  DeviceBuffer gate;     // [intermediate]
  DeviceBuffer up;       // [intermediate]
  DeviceBuffer act;      // [intermediate], as products read it
};

// Consecutive documents of some edges' states: what goes through a layer
// together.
struct Unit {
  std::span<const TrieEdge> edges;
  std::span<const PassRows::Document> documents;

  int64_t first_row() const { return documents.front().first; }
  int64_t rows_per_edge() const {
    return documents.back().first + documents.back().count - first_row();
  }
  int64_t rows() const {
    return rows_per_edge() * static_cast<int64_t>(edges.size());
  }
};

class CudaMachine : public PassMachine {
 public:
  explicit CudaMachine(PassContext context)
      : context_(std::move(context)),
        config_(context_.checkpoint.config()),
        plan_(context_.plan),
        type_(TypeOf(context_.compute)),
        rows_(context_.pass),
        loader_(context_.checkpoint, context_.model, context_.stop),
        maker_(context_.model, context_.codes),
        slots_(static_cast<size_t>(context_.num_slots)),
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
  struct Group;  // configurations that are scored together

  absl::Status AllocateUnit();
  absl::StatusOr<float*> SlotOf(int slot);
  std::vector<Unit> CutUnits(const TrieGroup& group) const;
  absl::Status RunUnit(const Unit& unit);
  absl::Status Attend(const Unit& unit);
  absl::Status FinishUnit(const Unit& unit);
  absl::Status Norm(const float* rows, int64_t count, const float* gains,
                    void* out);

  absl::Status LoadHead(std::span<const SweepPlan::Leaf> leaves);
  absl::Status ScoreGroup(const SweepPlan::Leaf& baseline,
                          std::span<const Scored> configurations);
  absl::Status ScoreTile(Group& group, int64_t first);
  absl::Status ScoreColumns(Group& group, int64_t first, int64_t column);
  void SumDocuments(Group& group, int64_t end);
  absl::Status Stopped() const;

  const PassContext context_;
  const ModelConfig& config_;
  const SweepPlan& plan_;
  const FloatType type_;
  const PassRows rows_;
  StageLoader loader_;
  WeightMaker maker_;

  DeviceBuffer ids_;        // [rows] int64: tokens to embed
  DeviceBuffer gold_;       // [rows] int32
  DeviceBuffer positions_;  // [rows] int32
  DeviceBuffer cosines_;
  DeviceBuffer sines_;
  std::vector<DeviceBuffer> slots_;  // [rows, hidden] fp32
  UnitBuffers unit_;
  std::optional<DeviceStage> layer_;
  DeviceBlock block_;
  std::vector<DeviceTensor> final_norms_;  // per variant
  std::vector<DeviceTensor> heads_;        // per variant
  double work_done_ = 0;
  int64_t rows_advanced_ = 0;
};

absl::Status CudaMachine::Start() {
  std::vector<int64_t> ids;
  std::vector<int32_t> positions;
  for (const std::span<const int32_t> document : context_.pass.documents) {
    for (size_t i = 0; i + 1 < document.size(); ++i) {
      QSWEEP_CHECK(document[i] >= 0 && document[i] < config_.vocabulary_size);
      ids.push_back(document[i]);
      positions.push_back(static_cast<int32_t>(i));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(ids_, OnDevice(ids));
  QSWEEP_ASSIGN_OR_RETURN(positions_, OnDevice(positions));
  QSWEEP_ASSIGN_OR_RETURN(gold_, OnDevice(rows_.gold));
  const RotaryTable rotary(config_, rows_.longest);
  const int64_t bytes = rows_.longest * (config_.head_dim / 2) * kFloat;
  QSWEEP_ASSIGN_OR_RETURN(cosines_, OnDevice(rotary.cosines(0), bytes));
  QSWEEP_ASSIGN_OR_RETURN(sines_, OnDevice(rotary.sines(0), bytes));
  return AllocateUnit();
}

absl::Status CudaMachine::AllocateUnit() {
  const int64_t rows =
      RoundUp(std::max(kUnitRows, rows_.longest), kDeviceTileRows);
  const int64_t hidden = config_.hidden_size;
  const int64_t intermediate = config_.intermediate_size;
  const int64_t read = BytesOf(type_);
  const auto allocate = [rows](DeviceBuffer& buffer, int64_t row_bytes) {
    return buffer.Reserve(rows * row_bytes);
  };
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.normed, hidden * read));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.qkv, QkvSize(config_) * kFloat));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.context, QuerySize(config_) * read));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.delta, hidden * kFloat));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.hidden, hidden * kFloat));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.gate, intermediate * kFloat));
  QSWEEP_RETURN_IF_ERROR(allocate(unit_.up, intermediate * kFloat));
  return allocate(unit_.act, intermediate * read);
}

absl::Status CudaMachine::Stopped() const {
  return context_.stop.stop_requested()
             ? absl::CancelledError("The run was cancelled.")
             : absl::OkStatus();
}

absl::StatusOr<float*> CudaMachine::SlotOf(int slot) {
  DeviceBuffer& buffer = slots_[static_cast<size_t>(slot)];
  QSWEEP_RETURN_IF_ERROR(
      buffer.Reserve(rows_.count() * config_.hidden_size * kFloat));
  return buffer.floats();
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
  QSWEEP_ASSIGN_OR_RETURN(float* const to, SlotOf(slot));
  QSWEEP_RETURN_IF_ERROR(GatherOnDevice(
      static_cast<const float*>(table.matrix.values), table.matrix.outputs,
      table.matrix.inputs, static_cast<const int64_t*>(ids_.data()),
      rows_.count(), to));
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

// All documents of as many edges as fit, or some documents of one edge.
std::vector<Unit> CudaMachine::CutUnits(const TrieGroup& group) const {
  const std::span<const TrieEdge> edges = group.edges;
  const std::span<const PassRows::Document> documents = rows_.documents;
  std::vector<Unit> units;
  if (rows_.count() <= kUnitRows) {
    const auto together = static_cast<size_t>(kUnitRows / rows_.count());
    for (size_t first = 0; first < edges.size(); first += together) {
      units.push_back({.edges = edges.subspan(
                           first, std::min(together, edges.size() - first)),
                       .documents = documents});
    }
    return units;
  }
  for (size_t edge = 0; edge < edges.size(); ++edge) {
    size_t first = 0;
    int64_t rows = 0;
    for (size_t d = 0; d <= documents.size(); ++d) {
      if (d == documents.size() ||
          (d > first && rows + documents[d].count > kUnitRows)) {
        units.push_back({.edges = edges.subspan(edge, 1),
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
  for (const Unit& unit : CutUnits(group)) {
    QSWEEP_RETURN_IF_ERROR(RunUnit(unit));
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

absl::Status CudaMachine::Norm(const float* rows, int64_t count,
                               const float* gains, void* out) {
  return Launched(kernels::RmsNormCuda(rows, count, config_.hidden_size, gains,
                                       static_cast<float>(config_.rms_eps), out,
                                       type_, ComputeStream()));
}

// Queries, keys and values, rotated; attention; the rest.
absl::Status CudaMachine::RunUnit(const Unit& unit) {
  const int64_t hidden = config_.hidden_size;
  const int64_t per_edge = unit.rows_per_edge();
  for (size_t e = 0; e < unit.edges.size(); ++e) {
    QSWEEP_ASSIGN_OR_RETURN(float* const from, SlotOf(unit.edges[e].from));
    const int64_t at = static_cast<int64_t>(e) * per_edge;
    QSWEEP_RETURN_IF_ERROR(Norm(from + unit.first_row() * hidden, per_edge,
                                block_.norm1,
                                static_cast<char*>(unit_.normed.data()) +
                                    at * hidden * BytesOf(type_)));
  }
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(unit_.normed.data(),
                                          RoundUp(unit.rows(), kDeviceTileRows),
                                          block_.qkv, unit_.qkv.floats()));
  const int64_t qkv = QkvSize(config_);
  for (size_t e = 0; e < unit.edges.size(); ++e) {
    QSWEEP_RETURN_IF_ERROR(Launched(kernels::RotateCuda(
        unit_.qkv.floats() + static_cast<int64_t>(e) * per_edge * qkv, per_edge,
        qkv, config_.heads + config_.kv_heads, config_.head_dim,
        static_cast<const int32_t*>(positions_.data()) + unit.first_row(),
        {.cosines = cosines_.floats(), .sines = sines_.floats()},
        ComputeStream())));
  }
  QSWEEP_RETURN_IF_ERROR(Attend(unit));
  return FinishUnit(unit);
}

absl::Status CudaMachine::Attend(const Unit& unit) {
  const int64_t qkv = QkvSize(config_);
  const int64_t query = QuerySize(config_);
  for (const PassRows::Document& document : unit.documents) {
    const int64_t row = document.first - unit.first_row();
    const float* const queries = unit_.qkv.floats() + row * qkv;
    const float* const keys = queries + query;
    QSWEEP_RETURN_IF_ERROR(AttendOnDevice(
        {.queries = queries,
         .keys = keys,
         .values = keys + int64_t{config_.kv_heads} * config_.head_dim,
         .state_stride = unit.rows_per_edge() * qkv,
         .row_stride = qkv,
         .states = static_cast<int64_t>(unit.edges.size()),
         .rows = document.count,
         .heads = config_.heads,
         .kv_heads = config_.kv_heads,
         .head_dim = config_.head_dim,
         .context = static_cast<char*>(unit_.context.data()) +
                    row * query * BytesOf(type_),
         .context_type = type_,
         .context_state_stride = unit.rows_per_edge() * query}));
  }
  return absl::OkStatus();
}

// Output projection, MLP, and both residual additions.
absl::Status CudaMachine::FinishUnit(const Unit& unit) {
  const int64_t hidden = config_.hidden_size;
  const int64_t per_edge = unit.rows_per_edge();
  const int64_t rows = unit.rows();
  const int64_t padded = RoundUp(rows, kDeviceTileRows);
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(unit_.context.data(), padded,
                                          block_.o, unit_.delta.floats()));
  for (size_t e = 0; e < unit.edges.size(); ++e) {
    QSWEEP_ASSIGN_OR_RETURN(float* const from, SlotOf(unit.edges[e].from));
    const int64_t at = static_cast<int64_t>(e) * per_edge * hidden;
    QSWEEP_RETURN_IF_ERROR(Launched(kernels::AddCuda(
        from + unit.first_row() * hidden, unit_.delta.floats() + at,
        per_edge * hidden, unit_.hidden.floats() + at, ComputeStream())));
  }
  QSWEEP_RETURN_IF_ERROR(
      Norm(unit_.hidden.floats(), rows, block_.norm2, unit_.normed.data()));
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(unit_.normed.data(), padded,
                                          block_.gate, unit_.gate.floats()));
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(unit_.normed.data(), padded,
                                          block_.up, unit_.up.floats()));
  QSWEEP_RETURN_IF_ERROR(Launched(kernels::SiluMultiplyCuda(
      unit_.gate.floats(), unit_.up.floats(), rows * config_.intermediate_size,
      unit_.act.data(), type_, ComputeStream())));
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(unit_.act.data(), padded, block_.down,
                                          unit_.delta.floats()));
  for (size_t e = 0; e < unit.edges.size(); ++e) {
    QSWEEP_ASSIGN_OR_RETURN(float* const to, SlotOf(unit.edges[e].to));
    const int64_t at = static_cast<int64_t>(e) * per_edge * hidden;
    QSWEEP_RETURN_IF_ERROR(Launched(kernels::AddCuda(
        unit_.hidden.floats() + at, unit_.delta.floats() + at,
        per_edge * hidden, to + unit.first_row() * hidden, ComputeStream())));
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
  QSWEEP_RETURN_IF_ERROR(LoadHead(leaves));
  const auto together = static_cast<size_t>(ScoredTogether(config_, type_));
  while (!configurations.empty()) {
    const size_t count = std::min(together, configurations.size());
    QSWEEP_RETURN_IF_ERROR(ScoreGroup(baseline, configurations.first(count)));
    configurations = configurations.subspan(count);
  }
  return absl::OkStatus();
}

struct CudaMachine::Group {
  std::span<const Scored> configurations;
  std::vector<size_t> leaf_of;              // per configuration
  std::vector<SweepPlan::Leaf> leaves;      // distinct; the baseline's first
  std::vector<kernels::TokenScore> scores;  // [leaves, rows]
  size_t summed = 0;                        // documents

  DeviceBuffer normed;           // [leaves, tile, hidden]
  DeviceBuffer baseline_logits;  // [tile, columns]
  DeviceBuffer logits;           // [tile, columns]
  DeviceBuffer states;           // [leaves, tile] HeadRow
  DeviceBuffer rescale;          // [tile]
};

absl::Status CudaMachine::ScoreGroup(const SweepPlan::Leaf& baseline,
                                     std::span<const Scored> configurations) {
  Group group{.configurations = configurations};
  group.leaves = {baseline};
  for (const Scored& scored : configurations) {
    const auto it =
        std::find(group.leaves.begin(), group.leaves.end(), scored.leaf);
    group.leaf_of.push_back(static_cast<size_t>(it - group.leaves.begin()));
    if (it == group.leaves.end()) {
      group.leaves.push_back(scored.leaf);
    }
  }
  group.scores.resize(group.leaves.size() * static_cast<size_t>(rows_.count()));
  const auto leaves = static_cast<int64_t>(group.leaves.size());
  const int64_t columns =
      std::min<int64_t>(kHeadColumns, config_.vocabulary_size);
  QSWEEP_RETURN_IF_ERROR(group.normed.Reserve(
      leaves * kDeviceTileRows * config_.hidden_size * BytesOf(type_)));
  QSWEEP_RETURN_IF_ERROR(
      group.baseline_logits.Reserve(kDeviceTileRows * columns * kFloat));
  QSWEEP_RETURN_IF_ERROR(
      group.logits.Reserve(kDeviceTileRows * columns * kFloat));
  QSWEEP_RETURN_IF_ERROR(group.states.Reserve(
      leaves * kDeviceTileRows * static_cast<int64_t>(sizeof(HeadRow))));
  QSWEEP_RETURN_IF_ERROR(group.rescale.Reserve(
      kDeviceTileRows * static_cast<int64_t>(sizeof(double))));
  const double row_work =
      HeadWork(config_) * static_cast<double>(configurations.size());
  for (int64_t first = 0; first < rows_.count(); first += kDeviceTileRows) {
    QSWEEP_RETURN_IF_ERROR(ScoreTile(group, first));
    const int64_t end = std::min(rows_.count(), first + kDeviceTileRows);
    SumDocuments(group, end);
    work_done_ += static_cast<double>(end - first) * row_work;
    context_.progress(work_done_, "scoring");
  }
  return absl::OkStatus();
}

// Rows from `first` on of every leaf, over the whole vocabulary.
absl::Status CudaMachine::ScoreTile(Group& group, int64_t first) {
  const int64_t count = std::min(kDeviceTileRows, rows_.count() - first);
  const int64_t hidden = config_.hidden_size;
  for (size_t leaf = 0; leaf < group.leaves.size(); ++leaf) {
    const SweepPlan::Leaf& of = group.leaves[leaf];
    QSWEEP_ASSIGN_OR_RETURN(float* const rows, SlotOf(of.slot));
    const auto* const gains = static_cast<const float*>(
        final_norms_[static_cast<size_t>(of.final_norm_variant)].memory.data());
    QSWEEP_RETURN_IF_ERROR(Norm(
        rows + first * hidden, count, gains,
        static_cast<char*>(group.normed.data()) + static_cast<int64_t>(leaf) *
                                                      kDeviceTileRows * hidden *
                                                      BytesOf(type_)));
  }
  std::vector<HeadRow> states(group.leaves.size() *
                              static_cast<size_t>(kDeviceTileRows));
  const auto bytes = static_cast<int64_t>(states.size() * sizeof(HeadRow));
  QSWEEP_RETURN_IF_ERROR(
      CopyToDevice(group.states.data(), states.data(), bytes));
  for (int64_t column = 0; column < config_.vocabulary_size;
       column += kHeadColumns) {
    QSWEEP_RETURN_IF_ERROR(ScoreColumns(group, first, column));
    QSWEEP_RETURN_IF_ERROR(Synchronize(ComputeStream()));
    QSWEEP_RETURN_IF_ERROR(Stopped());
  }
  QSWEEP_RETURN_IF_ERROR(
      CopyFromDevice(states.data(), group.states.data(), bytes));
  for (size_t leaf = 0; leaf < group.leaves.size(); ++leaf) {
    for (int64_t r = 0; r < count; ++r) {
      const HeadRow& base = states[static_cast<size_t>(r)];
      group.scores[leaf * static_cast<size_t>(rows_.count()) +
                   static_cast<size_t>(first + r)] =
          kernels::ScoreOf(base,
                           states[leaf * static_cast<size_t>(kDeviceTileRows) +
                                  static_cast<size_t>(r)]);
    }
  }
  return absl::OkStatus();
}

// A tile of the vocabulary: the baseline's logits, then each leaf's beside
// them.
absl::Status CudaMachine::ScoreColumns(Group& group, int64_t first,
                                       int64_t column) {
  const int64_t columns =
      std::min(kHeadColumns, config_.vocabulary_size - column);
  const auto* const gold = static_cast<const int32_t*>(gold_.data()) + first;
  auto* const states = static_cast<HeadRow*>(group.states.data());
  auto* const rescale = static_cast<double*>(group.rescale.data());
  kernels::HeadTile tile = {
      .logits = group.baseline_logits.floats(),
      .stride = columns,
      .rows = std::min(kDeviceTileRows, rows_.count() - first),
      .columns = columns,
      .first_column = static_cast<int32_t>(column)};
  const kernels::HeadTile baseline = tile;
  for (size_t leaf = 0; leaf < group.leaves.size(); ++leaf) {
    float* const logits =
        leaf == 0 ? group.baseline_logits.floats() : group.logits.floats();
    const DeviceMatrix& head =
        heads_[static_cast<size_t>(group.leaves[leaf].head_variant)].matrix;
    QSWEEP_RETURN_IF_ERROR(
        MultiplyOnDevice(static_cast<const char*>(group.normed.data()) +
                             static_cast<int64_t>(leaf) * kDeviceTileRows *
                                 config_.hidden_size * BytesOf(type_),
                         kDeviceTileRows, head.Rows(column, columns), logits));
    tile.logits = logits;
    HeadRow* const state =
        states + static_cast<int64_t>(leaf) * kDeviceTileRows;
    QSWEEP_RETURN_IF_ERROR(Launched(
        leaf == 0
            ? kernels::HeadBaselineCuda(tile, gold, state, rescale,
                                        ComputeStream())
            : kernels::HeadConfigurationCuda(tile, baseline, gold, states,
                                             rescale, state, ComputeStream())));
  }
  return absl::OkStatus();
}

// Sums the documents that end before row `end`, in row order.
void CudaMachine::SumDocuments(Group& group, int64_t end) {
  for (; group.summed < rows_.documents.size(); ++group.summed) {
    const PassRows::Document& document = rows_.documents[group.summed];
    if (document.first + document.count > end) {
      return;
    }
    for (size_t c = 0; c < group.configurations.size(); ++c) {
      DocumentSums& sums = context_.pass.sums[static_cast<size_t>(
          group.configurations[c].configuration)][group.summed];
      const size_t first =
          group.leaf_of[c] * static_cast<size_t>(rows_.count()) +
          static_cast<size_t>(document.first);
      for (int64_t r = 0; r < document.count; ++r) {
        sums.Add(group.scores[first + static_cast<size_t>(r)]);
      }
      sums.final = true;
    }
  }
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
                         Compute compute) {
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
  // Two stages as stored, at most fp32; a variant; one tensor before rounding.
  const int64_t layers =
      2 * layer * kFloat + layer * BytesOf(type) + largest * kFloat;
  // The stage, its variants, one before rounding; states and logits.
  const int64_t columns =
      std::min<int64_t>(kHeadColumns, config.vocabulary_size);
  const int64_t head = 2 * outside * kFloat +
                       static_cast<int64_t>(plan.head.variants.size()) *
                           outside * BytesOf(type) +
                       (ScoredTogether(config, type) + 1) * kDeviceTileRows *
                           config.hidden_size * BytesOf(type) +
                       2 * kDeviceTileRows * columns * kFloat;
  return std::max(layers, head) + kUnitRows * UnitBytesPerRow(config, type) +
         kReserveBytes;
}

}  // namespace qsweep
