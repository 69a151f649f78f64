// The CPU as a device.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "worker/engine/cpu_machine.h"
#include "worker/engine/device.h"
#include "worker/engine/products.h"
#include "worker/engine/self_check.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

class CpuDevice : public Device {
 public:
  CpuDevice(ThreadPool& pool, int64_t memory_bytes) : pool_(pool) {
    info_.name = "cpu";
    info_.build = absl::StrCat(ProductsVersion(), " cpu ",
                               kernels::BestRowKernels().name);
    info_.memory_bytes =
        memory_bytes > 0 ? memory_bytes : AvailableHostMemory() / 10 * 8;
  }

  const DeviceInfo& info() const override { return info_; }
  bool Computes(Compute compute) const override {
    return compute == Compute::kFp32;
  }
  absl::Status CheckReproducible() override {
    return qsweep::CheckReproducible(MultiplyTile, AttendDocument, pool_);
  }
  double MeasureGflops() override { return qsweep::MeasureGflops(pool_); }
  int64_t StateBytes(const ModelConfig& config) const override {
    return CpuMachine::StateBytes(config);
  }

  // Three layers of weights, or every variant of the head beside its tensor.
  int64_t WorkingBytes(const ModelConfig&, const ModelDescription& model,
                       const SweepPlan& plan, Compute, int64_t) const override {
    int64_t layer_bytes = 0;
    int64_t head_bytes = 0;
    for (const TensorDescription& tensor : model.tensors) {
      const int64_t bytes =
          tensor.num_elements() * static_cast<int64_t>(sizeof(float));
      if (tensor.layer == 0) {
        layer_bytes += bytes;
      } else if (tensor.layer < 0) {
        head_bytes = std::max(head_bytes, bytes);
      }
    }
    return std::max(
        3 * layer_bytes,
        (1 + static_cast<int64_t>(plan.head.variants.size())) * head_bytes);
  }

  absl::StatusOr<std::unique_ptr<PassMachine>> StartPass(
      PassContext context) override {
    return std::make_unique<CpuMachine>(std::move(context), pool_);
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
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(ThreadPool& pool, int64_t memory_bytes) {
  return std::make_unique<CpuDevice>(pool, memory_bytes);
}

}  // namespace qsweep
