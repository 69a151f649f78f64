#include "worker/engine/cuda_gptq.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/engine/cuda_memory.h"
#include "worker/kernels/gptq_cuda.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/scheme_options.h"

namespace qsweep {
namespace {

// In device memory.
struct Factor {
  static absl::StatusOr<Factor> Of(const kernels::GptqFactor& factor) {
    const auto values = [](const kernels::AlignedArray<float>& array) {
      return std::span(array.data(), static_cast<size_t>(array.size()));
    };
    const std::vector<uint8_t> dead(factor.dead.begin(), factor.dead.end());
    Factor on_device;
    QSWEEP_ASSIGN_OR_RETURN(on_device.upper,
                            DeviceBuffer::Of(values(factor.upper)));
    QSWEEP_ASSIGN_OR_RETURN(on_device.inverses,
                            DeviceBuffer::Of(values(factor.inverses)));
    QSWEEP_ASSIGN_OR_RETURN(on_device.order, DeviceBuffer::Of(factor.order));
    QSWEEP_ASSIGN_OR_RETURN(on_device.dead, DeviceBuffer::Of(dead));
    return on_device;
  }

  DeviceBuffer upper;
  DeviceBuffer inverses;
  DeviceBuffer order;
  DeviceBuffer dead;
};

template <typename T>
int64_t BytesOf(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

template <typename T>
absl::Status Fetch(const DeviceBuffer& from, std::vector<T>& to) {
  return CopyFromDevice(to.data(), from.data(), BytesOf(to));
}

// Workers compare their codes, so a GPU's must be those of its machine's CPU.
bool FirstRowsEqualTheCpus(const Scheme& scheme,
                           const kernels::GptqFactor& factor,
                           std::span<const float> weights,
                           const kernels::CodedTensor& coded) {
  constexpr int64_t kRows = 8;
  const int64_t rows = std::min(kRows, coded.rows);
  kernels::CodedTensor cpu = kernels::StartCoded(scheme, rows, factor);
  kernels::QuantizeRows(
      scheme, factor, weights.first(static_cast<size_t>(rows * coded.columns)),
      0, rows, cpu);
  const auto starts = [](const auto& all, const auto& some) {
    return std::equal(some.begin(), some.end(), all.begin());
  };
  return starts(coded.codes, cpu.codes) && starts(coded.scales, cpu.scales) &&
         starts(coded.zeros, cpu.zeros);
}

}  // namespace

absl::StatusOr<bool> QuantizeGptqOnDevice(const Scheme& scheme,
                                          const kernels::GptqFactor& factor,
                                          std::span<const float> weights,
                                          kernels::CodedTensor& coded) {
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) ==
               coded.rows * coded.columns);
  if (weights.empty()) {
    return true;
  }
  const kernels::GptqOptions options = kernels::GptqOptionsOf(scheme);
  QSWEEP_ASSIGN_OR_RETURN(const Factor on_device, Factor::Of(factor));
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer matrix, DeviceBuffer::Of(weights));
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer codes,
                          DeviceBuffer::Allocate(BytesOf(coded.codes)));
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer scales,
                          DeviceBuffer::Allocate(BytesOf(coded.scales)));
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer zeros,
                          DeviceBuffer::Allocate(BytesOf(coded.zeros)));
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer workspace,
                          DeviceBuffer::Allocate(kernels::GptqWorkspaceBytes(
                              coded.rows, coded.columns, options)));
  QSWEEP_RETURN_IF_ERROR(KernelStatus(kernels::GptqCuda(
      {.columns = coded.columns,
       .upper = on_device.upper.floats(),
       .inverses = on_device.inverses.floats(),
       .order = static_cast<const int32_t*>(on_device.order.data()),
       .dead = static_cast<const uint8_t*>(on_device.dead.data())},
      {.weights = matrix.data(),
       .codes = static_cast<uint8_t*>(codes.data()),
       .scales = scales.floats(),
       .zeros = static_cast<uint8_t*>(zeros.data()),
       .workspace = workspace.data()},
      coded.rows, options, ComputeStream())));
  QSWEEP_RETURN_IF_ERROR(Fetch(codes, coded.codes));
  QSWEEP_RETURN_IF_ERROR(Fetch(scales, coded.scales));
  QSWEEP_RETURN_IF_ERROR(Fetch(zeros, coded.zeros));
  return FirstRowsEqualTheCpus(scheme, factor, weights, coded);
}

}  // namespace qsweep
