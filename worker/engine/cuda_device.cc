// A GPU as a device.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <dlfcn.h>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/engine/cuda_block.h"
#include "worker/engine/cuda_check.h"
#include "worker/engine/cuda_gptq.h"
#include "worker/engine/cuda_head.h"
#include "worker/engine/cuda_machine.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/device.h"
#include "worker/engine/products.h"

namespace qsweep {
namespace {

// "cublas 12.6.4": it has the products, and another one may have other bits.
// It comes with libtorch's CUDA part, which is linked.
std::string CublasVersion() {
  using GetProperty = int (*)(int property, int* value);
  const auto get_property =
      reinterpret_cast<GetProperty>(dlsym(RTLD_DEFAULT, "cublasGetProperty"));
  std::array<int, 3> version = {};  // major, minor, patch level
  for (size_t i = 0; i < version.size(); ++i) {
    if (get_property == nullptr ||
        get_property(static_cast<int>(i), &version[i]) != 0) {
      return "cublas unknown";
    }
  }
  return absl::StrCat("cublas ", absl::StrJoin(version, "."));
}

class CudaDevice : public Device {
 public:
  CudaDevice(const GpuProperties& gpu, const MemoryLimit& memory) {
    info_.name = absl::StrCat("cuda ", gpu.name);
    info_.build =
        absl::StrCat(ProductsVersion(), " ", CublasVersion(), " cuda ",
                     gpu.name, " sm_", gpu.compute_capability);
    info_.compute_capability = gpu.compute_capability;
    const int64_t most = gpu.free_bytes / 10 * 9;
    const int64_t asked =
        memory.bytes > 0 ? memory.bytes : gpu.free_bytes / 100 * memory.percent;
    info_.memory_bytes = asked > 0 ? std::min(asked, most) : most;
  }

  const DeviceInfo& info() const override { return info_; }
  bool Computes(Compute compute) const override {
    return compute == Compute::kFp32 || compute == Compute::kFp16;
  }
  bool Reorders() const override { return false; }
  absl::Status CheckReproducible() override { return CheckCudaProducts(); }
  absl::Status CheckProductsOf(const ModelConfig& config,
                               const std::stop_token& stop) override;
  double MeasureGflops() override { return MeasureCudaGflops(); }
  int64_t StateBytes(const ModelConfig& config) const override {
    return CudaStateBytes(config);
  }
  int64_t RowStep() const override { return 1; }
  bool KeepsStatesInFiles() const override { return false; }
  bool KeepsNormedCopies() const override { return false; }
  int64_t RowBytes(const SweepPlan&) const override { return 0; }
  int64_t WorkingBytes(const ModelConfig& config, const ModelDescription& model,
                       const SweepPlan& plan, Compute compute,
                       int64_t longest_rows) const override {
    return CudaWorkingBytes(config, model, plan, compute, longest_rows);
  }
  absl::StatusOr<std::unique_ptr<PassMachine>> StartPass(
      PassContext context) override {
    return MakeCudaMachine(std::move(context));
  }
  absl::StatusOr<bool> QuantizeGptq(const Scheme& scheme,
                                    const kernels::GptqFactor& factor,
                                    std::span<const float> weights,
                                    kernels::CodedTensor& coded) override {
    const absl::StatusOr<bool> done =
        QuantizeGptqOnDevice(scheme, factor, weights, coded);
    if (absl::IsResourceExhausted(done.status())) {
      ReleaseUnusedMemory();
      return false;
    }
    return done;
  }
  int64_t PeakBytes() const override { return PeakDeviceMemory(); }

 private:
  DeviceInfo info_;
  std::set<DeviceProduct> checked_;
};

absl::Status CudaDevice::CheckProductsOf(const ModelConfig& config,
                                         const std::stop_token& stop) {
  std::set<DeviceProduct> products;
  for (const std::vector<DeviceProduct>& part :
       {DeviceBlockRunner::Products(config),
        DeviceHeadScorer::Products(config)}) {
    products.insert(part.begin(), part.end());
  }
  std::erase_if(products, [this](const DeviceProduct& product) {
    return checked_.contains(product);
  });
  const absl::Status checked =
      CheckCudaProductsOf({products.begin(), products.end()}, stop);
  ReleaseUnusedMemory();  // pieces of these sizes do not come again
  QSWEEP_RETURN_IF_ERROR(checked);
  checked_.merge(products);
  return absl::OkStatus();
}

}  // namespace

absl::Status FindCuda() { return FindGpu().status(); }

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(
    const MemoryLimit& memory) {
  QSWEEP_ASSIGN_OR_RETURN(const GpuProperties gpu, FindGpu());
  auto device = std::make_unique<CudaDevice>(gpu, memory);
  QSWEEP_RETURN_IF_ERROR(LimitDeviceMemory(device->info().memory_bytes));
  PrepareProducts();
  return device;
}

}  // namespace qsweep
