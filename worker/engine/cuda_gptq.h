#ifndef QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_
#define QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_

#include <span>

#include "absl/status/statusor.h"

#include "common/job/quantizer.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/gptq.h"

namespace qsweep {

// Codes of a matrix by the GPU's kernel, as Device::QuantizeGptq describes it;
// the host waits for them. False: those of the first rows are not what this CPU
// makes of them. RESOURCE_EXHAUSTED QS5006: the factor, the weights and the
// workspace do not fit. INTERNAL QS5013.
absl::StatusOr<bool> QuantizeGptqOnDevice(const Scheme& scheme,
                                          const kernels::GptqFactor& factor,
                                          std::span<const float> weights,
                                          kernels::CodedTensor& coded);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_
