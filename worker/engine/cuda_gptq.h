#ifndef QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_
#define QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_

#include <span>

#include "absl/status/status.h"

#include "common/job/quantizer.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/gptq.h"

namespace qsweep {

// Codes of a matrix by the GPU's kernel, as Device::QuantizeGptq describes it;
// the host waits for them. RESOURCE_EXHAUSTED QS5006: the factor, the weights
// and the workspace do not fit; `coded` is as it was. INTERNAL QS5013.
absl::Status QuantizeGptqOnDevice(const Scheme& scheme,
                                  const kernels::GptqFactor& factor,
                                  std::span<const float> weights,
                                  kernels::CodedTensor& coded);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_GPTQ_H_
