#ifndef QSWEEP_WORKER_ENGINE_SELF_CHECK_H_
#define QSWEEP_WORKER_ENGINE_SELF_CHECK_H_

#include <cstdint>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "common/base/clock.h"
#include "worker/engine/products.h"
#include "worker/engine/thread_pool.h"

namespace qsweep {

// Proves on small shapes what measurements rely on: that a row of a product has
// the same bits at every place of the tile, beside all neighbours, and on every
// thread; that a document's attention has the same bits on every thread; and
// that both agree with sums in double. Well under a second.
// FAILED_PRECONDITION QS5005: they do not, with what differed.
// multiply, attend: MultiplyTile and AttendDocument, or what is to be checked
// in their place.
using Multiply = void (*)(const float* rows, int64_t row_stride,
                          const Panel& weight, float* out, int64_t out_stride);
using Attend = void (*)(const AttentionHeads& document);
absl::Status CheckReproducible(Multiply multiply, Attend attend,
                               ThreadPool& pool);

// The same of products in one mode; CheckReproducible checks those in fp32.
absl::Status CheckProducts(Multiply multiply, const ProductMode& mode,
                           ThreadPool& pool);

// The same of products of these shapes, as often as so many operations allow:
// at some places at least, at all if they are small. CANCELLED; stop is looked
// at before each.
absl::Status CheckShapes(Multiply multiply, const ProductMode& mode,
                         const std::vector<ProductShape>& shapes,
                         double operations, const std::stop_token& stop,
                         ThreadPool& pool);

// Multiplications and additions per second, in 1e9, of products of the head's
// kind on all threads: the best of some rounds, since the first ones share the
// machine with what starts beside them. About a tenth of a second.
double MeasureGflops(ThreadPool& pool, const Clock& clock = Clock::Real());

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_SELF_CHECK_H_
