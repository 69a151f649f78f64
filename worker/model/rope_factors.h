#ifndef QSWEEP_WORKER_MODEL_ROPE_FACTORS_H_
#define QSWEEP_WORKER_MODEL_ROPE_FACTORS_H_

#include <optional>
#include <vector>

#include "worker/model/config.h"
#include "worker/model/tensor_type.h"

namespace qsweep {

// What llama3 scaling divides each rotary frequency by: [head_dim / 2].
std::vector<double> Llama3RopeFactors(const Llama3RopeScaling& scaling,
                                      double rope_theta, int head_dim);

// GGUF files of Llama 3.1 and later store the divisors, not the parameters they
// came from. Finds the parameters of the published models (factor 8 or 32,
// low 1, high 4, original context 8192) that give this tensor within 1e-4;
// nothing: it is none of them. rope_theta and head_dim must be set.
std::optional<Llama3RopeScaling> RecogniseRopeFactors(
    const StoredTensor& tensor, const ModelConfig& config);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_ROPE_FACTORS_H_
