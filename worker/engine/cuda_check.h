#ifndef QSWEEP_WORKER_ENGINE_CUDA_CHECK_H_
#define QSWEEP_WORKER_ENGINE_CUDA_CHECK_H_

#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/cuda_products.h"

namespace qsweep {

// Proves what measurements rely on, on this GPU: that a row of a product, in
// fp32 and in fp16, has the same bits at every place of the tile and beside all
// neighbours; that a document's attention has the same bits beside other states
// as alone; and that both agree with sums in double. About a second.
// FAILED_PRECONDITION QS5005: they do not, with what differed. QS5006, QS5013.
absl::Status CheckCudaProducts();

// The same of these products, those of a model. A fraction of a second each for
// a model of 7e9 weights.
absl::Status CheckCudaProductsOf(const std::vector<DeviceProduct>& products,
                                 const std::stop_token& stop);

// Multiplications and additions per second, in 1e9, of fp32 products of a
// decoder's size; 0: they failed. About a tenth of a second.
double MeasureCudaGflops();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_CHECK_H_
