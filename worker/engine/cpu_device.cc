// The CPU as a device.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "worker/engine/block.h"
#include "worker/engine/cpu_machine.h"
#include "worker/engine/device.h"
#include "worker/engine/head.h"
#include "worker/engine/host_memory.h"
#include "worker/engine/products.h"
#include "worker/engine/self_check.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

// Of a budget, for what a pass allocates in small pieces.
constexpr int64_t kReserveBytes = int64_t{2} << 20;

constexpr ProductMode kNative = {.compute = Compute::kBf16, .native = true};

constexpr double kCheckSeconds = 0.3;  // of a model's products

int64_t ScoredTogether(const SweepPlan& plan) {
  return static_cast<int64_t>(
      std::min(CpuMachine::kScoredTogether, plan.words.size()));
}

class CpuDevice : public Device {
 public:
  CpuDevice(ThreadPool& pool, const MemoryLimit& memory) : pool_(pool) {
    info_.name = "cpu";
    // After "cpu" the level of our own loops.
    info_.build = absl::StrCat(ProductsVersion(), " cpu ",
                               kernels::BestRowKernels().name);
    info_.memory_bytes = HostMemoryBytes(memory);
  }

  const DeviceInfo& info() const override { return info_; }
  bool Computes(Compute compute) const override {
    return compute == Compute::kFp32 || compute == Compute::kBf16;
  }
  bool Reorders() const override { return true; }
  absl::Status CheckReproducible() override {
    QSWEEP_RETURN_IF_ERROR(
        qsweep::CheckReproducible(MultiplyTile, AttendDocument, pool_));
    // Without it products in bf16 are slower, not wrong.
    if (HasNativeBf16() && CheckProducts(MultiplyTile, kNative, pool_).ok()) {
      native_bf16_ = true;
      absl::StrAppend(&info_.build, " bf16");
    }
    return absl::OkStatus();
  }
  absl::Status CheckProductsOf(const ModelConfig& config,
                               const std::stop_token& stop) override;
  double MeasureGflops() override {
    gflops_ = qsweep::MeasureGflops(pool_);
    return gflops_;
  }
  int64_t StateBytes(const ModelConfig& config) const override {
    return kernels::RowStride(config.hidden_size) * kFloat;
  }
  int64_t RowStep() const override { return kernels::kTileRows; }
  bool KeepsStatesInFiles() const override { return true; }
  bool KeepsNormedCopies() const override { return true; }
  int64_t RowBytes(const SweepPlan& plan) const override {  // scores, id
    return (1 + ScoredTogether(plan)) *
               static_cast<int64_t>(sizeof(kernels::TokenScore)) +
           static_cast<int64_t>(sizeof(int32_t));
  }
  int64_t WorkingBytes(const ModelConfig& config, const ModelDescription& model,
                       const SweepPlan& plan, Compute,
                       int64_t longest_rows) const override;

  absl::StatusOr<std::unique_ptr<PassMachine>> StartPass(
      PassContext context) override {
    return CpuMachine::Start(std::move(context), native_bf16_, pool_);
  }
  absl::StatusOr<bool> QuantizeGptq(const Scheme&, const kernels::GptqFactor&,
                                    std::span<const float>,
                                    kernels::CodedTensor&) override {
    return false;
  }
  int64_t PeakBytes() const override { return 0; }

 private:
  ThreadPool& pool_;
  DeviceInfo info_;
  double gflops_ = 1;
  bool native_bf16_ = false;
  std::set<ProductShape> checked_;
};

// What is remembered of a tensor outside the layers while it is rounded in its
// own memory.
int64_t KeptBytes(const SweepPlan& plan, int64_t tensor_bytes) {
  constexpr int64_t kMillion = 1'000'000;
  int64_t largest = 0;
  for (const Stage* stage : {&plan.embedding, &plan.head}) {
    for (const StageVariant& variant : stage->variants) {
      for (const std::optional<Scheme>& scheme : variant) {
        if (scheme && scheme->kept_millionths != 0) {
          const int64_t places = tensor_bytes / (8 * kFloat);
          const int64_t values =
              tensor_bytes / kMillion * scheme->kept_millionths;
          largest = std::max(largest, places + values);
        }
      }
    }
  }
  return largest;
}

// A layer's tensors, and a variant of them with what it is made of and as the
// library reads it; or every variant of the head beside its tensor, which is
// the variant where there is one; and every thread's buffers.
int64_t CpuDevice::WorkingBytes(const ModelConfig& config,
                                const ModelDescription& model,
                                const SweepPlan& plan, Compute compute,
                                int64_t longest_rows) const {
  std::vector<int64_t> layers(static_cast<size_t>(model.layers));
  int64_t outside = 0;
  for (const TensorDescription& tensor : model.tensors) {
    const int64_t bytes = tensor.num_elements() * kFloat;
    if (tensor.layer >= 0) {
      layers[static_cast<size_t>(tensor.layer)] += bytes;
    } else {
      outside = std::max(outside, bytes);
    }
  }
  int64_t scratch = 0;  // of a quantizer, one tensor at a time
  bool coded = false;   // whether a variant is made of stored codes
  const auto add = [&](const Stage& stage) {
    for (const StageVariant& variant : stage.variants) {
      for (size_t t = 0; t < variant.size(); ++t) {
        const TensorDescription& tensor =
            model.tensors[static_cast<size_t>(stage.tensors[t])];
        coded |= variant[t] && variant[t]->calibrated();
        if (variant[t] && !variant[t]->calibrated()) {
          scratch =
              std::max(scratch, kernels::FakeQuantizeBytes(
                                    *variant[t], 1, tensor.num_elements()));
        }
      }
    }
  };
  add(plan.embedding);
  add(plan.head);
  std::ranges::for_each(plan.layers, add);
  const auto heads = static_cast<int64_t>(plan.head.variants.size());
  const int threads = pool_.num_threads();
  const int64_t rotary = longest_rows * config.head_dim * kFloat;
  // The library makes a new context, and repeats keys and values for groups.
  const int64_t attention = (config.heads == config.kv_heads ? 1 : 3) *
                            longest_rows * config.heads * config.head_dim *
                            kFloat;
  int64_t rounded = 0;  // native: half of it
  for (const ProductShape& shape : BlockRunner::Products(config)) {
    if (compute == Compute::kBf16) {
      rounded = std::max(rounded, RoundedBytes(shape.inputs));
    }
  }
  const int64_t layer = *std::ranges::max_element(layers);
  // A byte a weight, and scales of groups of eight at least.
  const int64_t codes = coded ? layer * 2 / 5 : 0;
  return std::max(2 * layer + codes + BlockRunner::PanelBytes(config),
                  (heads == 1 ? 1 : heads + 1) * outside +
                      KeptBytes(plan, outside)) +
         threads *
             (attention + rounded +
              BlockRunner::Bytes(
                  config, std::max(CpuMachine::kMaxUnitRows, longest_rows))) +
         HeadScorer::Bytes(config, threads, ScoredTogether(plan), heads) +
         rotary + scratch + kReserveBytes;
}

absl::Status CpuDevice::CheckProductsOf(const ModelConfig& config,
                                        const std::stop_token& stop) {
  std::set<ProductShape> shapes;
  for (const std::vector<ProductShape>& part :
       {BlockRunner::Products(config), HeadScorer::Products(config)}) {
    for (const ProductShape& shape : part) {
      // Rounded rows come in a stride of their own.
      for (const ProductShape& asked : {shape, RoundedShape(shape)}) {
        if (!checked_.contains(asked)) {
          shapes.insert(asked);
        }
      }
    }
  }
  const double operations = kCheckSeconds * gflops_ * 1e9;
  const std::vector<ProductShape> all(shapes.begin(), shapes.end());
  QSWEEP_RETURN_IF_ERROR(
      CheckShapes(MultiplyTile, ProductMode(), all, operations, stop, pool_));
  if (native_bf16_) {
    QSWEEP_RETURN_IF_ERROR(
        CheckShapes(MultiplyTile, kNative, all, operations, stop, pool_));
  }
  checked_.merge(shapes);
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(ThreadPool& pool,
                                      const MemoryLimit& memory) {
  return std::make_unique<CpuDevice>(pool, memory);
}

}  // namespace qsweep
