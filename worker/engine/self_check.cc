#include "worker/engine/self_check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stop_token>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "worker/engine/products.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

using kernels::FloatBuffer;
using kernels::kTileRows;
using kernels::RowStride;

// Sizes that fill the library's blocks and sizes that do not.
constexpr ProductShape kShapes[] = {
    {64, 64, 48, 48}, {50, 50, 131, 144}, {1600, 1600, 49, 64}};

// Sums in double of one shape.
constexpr int64_t kMostTerms = int64_t{1} << 22;

// One that fits a block of the library's attention, and one of several.
constexpr int64_t kDocumentRows[] = {9, 150};

size_t Bytes(int64_t floats) {
  return static_cast<size_t>(floats) * sizeof(float);
}

// Random up to a prime number of values, by which no row begins alike.
FloatBuffer RandomBuffer(Random& random, int64_t size) {
  constexpr int64_t kPeriod = 65521;
  FloatBuffer buffer(size);
  float* const values = buffer.data();
  for (int64_t i = 0; i < size; ++i) {
    values[i] = i < kPeriod ? static_cast<float>(random.Uniform() - 0.5)
                            : values[i - kPeriod];
  }
  return buffer;
}

absl::Status Failed(absl::string_view what) {
  return MakeError(
      kSelfCheckFailed,
      absl::StrCat("The start-up check failed with ", ProductsVersion(), ": ",
                   what, "."),
      "",
      "Results would depend on what they are computed beside, so none are "
      "made here. Either the hardware is faulty, or the library computes in "
      "another way on this kind of CPU than on those known so far: "
      "report its model, and use another.");
}

// The rows' products in one full tile: what every other way must equal.
class Reference {
 public:
  Reference(Multiply multiply, const ProductMode& mode,
            const ProductShape& shape, Random& random)
      : multiply_(multiply),
        shape_(shape),
        weight_(shape.outputs, shape.inputs,
                RandomBuffer(random, shape.outputs * shape.inputs), mode),
        rows_(RandomBuffer(random, kTileRows * shape.row_stride)),
        wanted_(kTileRows * shape.out_stride) {
    if (mode.compute == Compute::kBf16) {  // as the product would round them
      kernels::BestRowKernels().round_to_bf16(rows_.data(), rows_.size(),
                                              rows_.data());
    }
    panel_.Prepare(weight_.row(0), shape.inputs, shape.outputs, mode);
    Fill(rows_.data(), wanted_.data());
  }

  // Against sums in double, of every ninth row and, of a large product, of some
  // columns.
  absl::Status CheckValues() const {
    constexpr int64_t kRowStep = 9;
    const int64_t step =
        1 + kTileRows / kRowStep * shape_.outputs * shape_.inputs / kMostTerms;
    for (int64_t r = 0; r < kTileRows; r += kRowStep) {
      for (int64_t o = r % step; o < shape_.outputs; o += step) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < shape_.inputs; ++i) {
          const double term =
              static_cast<double>(rows_.data()[r * shape_.row_stride + i]) *
              static_cast<double>(weight_.row(o)[i]);
          sum += term;
          magnitude += std::abs(term);
        }
        const double got =
            static_cast<double>(wanted_.data()[r * shape_.out_stride + o]);
        if (!(std::abs(got - sum) <= 1e-5 * magnitude + 1e-6)) {
          return Failed(absl::StrCat("a product is ", got, ", not ", sum));
        }
      }
    }
    return absl::OkStatus();
  }

  // At every place, beside every number of neighbours, or at `trials` of them,
  // spread over the threads.
  absl::Status CheckPlaces(int64_t trials, ThreadPool& pool) const {
    return pool.ParallelFor(
        std::min<int64_t>(trials, kTileRows), std::stop_token(),
        [&](int64_t trial, int) {
          // Odd factors: all of a tile's places, in another order.
          const int64_t shift = (37 * trial + 1) % kTileRows;
          const int64_t height = 1 + (53 * trial + 70) % kTileRows;
          absl::Status places = CheckPlace(shift, kTileRows);
          return places.ok() ? CheckPlace(shift, height) : places;
        });
  }

 private:
  // Rotates the rows by `shift` places, so that each has another place, and
  // replaces the rows from `height` on, so that the others have other
  // neighbours.
  absl::Status CheckPlace(int64_t shift, int64_t height) const {
    FloatBuffer moved(kTileRows * shape_.row_stride);
    for (int64_t r = 0; r < height; ++r) {
      std::memcpy(moved.data() + r * shape_.row_stride,
                  rows_.data() + Source(r, shift) * shape_.row_stride,
                  Bytes(shape_.inputs));
    }
    FloatBuffer out(kTileRows * shape_.out_stride);
    Fill(moved.data(), out.data());
    for (int64_t r = 0; r < height; ++r) {
      if (std::memcmp(out.data() + r * shape_.out_stride,
                      wanted_.data() + Source(r, shift) * shape_.out_stride,
                      Bytes(shape_.outputs)) != 0) {
        return Failed(absl::StrCat(
            "row ", Source(r, shift), " of a product of ", shape_.inputs,
            " by ", shape_.outputs, " changes at place ", r, " of ", height));
      }
    }
    return absl::OkStatus();
  }

  static int64_t Source(int64_t row, int64_t shift) {
    return (row + shift) % kTileRows;
  }
  void Fill(const float* rows, float* out) const {
    multiply_(rows, shape_.row_stride, panel_, out, shape_.out_stride);
  }

  const Multiply multiply_;
  const ProductShape shape_;
  const Matrix weight_;
  Panel panel_;
  FloatBuffer rows_;
  FloatBuffer wanted_;
};

// One document's attention as BlockRunner lays it out, in grouped heads.
class AttentionReference {
 public:
  AttentionReference(Attend attend, int64_t rows, Random& random)
      : attend_(attend),
        rows_(rows),
        input_(RandomBuffer(random, rows * kStride)),
        wanted_(Run()) {}

  // Against softmax and sums in double.
  absl::Status CheckValues() const {
    for (int64_t row = 0; row < rows_; ++row) {
      for (int head = 0; head < kHeads; ++head) {
        const std::vector<double> context = Context(row, head);
        for (int i = 0; i < kHeadDim; ++i) {
          const double want = context[static_cast<size_t>(i)];
          const auto got = static_cast<double>(
              wanted_.data()[row * kStride + head * kHeadDim + i]);
          if (!(std::abs(got - want) <= 1e-5)) {
            return Failed(
                absl::StrCat("an attention is ", got, ", not ", want));
          }
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckAgain() const {
    const FloatBuffer again = Run();
    return std::memcmp(again.data(), wanted_.data(), Bytes(again.size())) == 0
               ? absl::OkStatus()
               : Failed("the attention of a document changes with the thread");
  }

 private:
  static constexpr int kHeads = 4;
  static constexpr int kKvHeads = 2;
  static constexpr int kHeadDim = 32;
  static constexpr int kKeys = kHeads * kHeadDim;
  static constexpr int kValues = kKeys + kKvHeads * kHeadDim;
  static constexpr int64_t kStride =
      RowStride((kHeads + 2 * kKvHeads) * kHeadDim);

  FloatBuffer Run() const {
    FloatBuffer buffer(input_.size());
    std::memcpy(buffer.data(), input_.data(), Bytes(input_.size()));
    attend_({.queries = buffer.data(),
             .keys = buffer.data() + kKeys,
             .values = buffer.data() + kValues,
             .stride = kStride,
             .rows = rows_,
             .heads = kHeads,
             .kv_heads = kKvHeads,
             .head_dim = kHeadDim});
    return buffer;
  }

  std::vector<double> Context(int64_t row, int head) const {
    const int kv_head = head / (kHeads / kKvHeads);
    const float* const query = input_.data() + row * kStride + head * kHeadDim;
    std::vector<double> context(kHeadDim);
    double total = 0;
    for (int64_t past = 0; past <= row; ++past) {
      const float* const at =
          input_.data() + past * kStride + kv_head * kHeadDim;
      double score = 0;
      for (int i = 0; i < kHeadDim; ++i) {
        score +=
            static_cast<double>(query[i]) * static_cast<double>(at[kKeys + i]);
      }
      const double weight = std::exp(score / std::sqrt(double{kHeadDim}));
      total += weight;
      for (int i = 0; i < kHeadDim; ++i) {
        context[static_cast<size_t>(i)] +=
            weight * static_cast<double>(at[kValues + i]);
      }
    }
    for (double& value : context) {
      value /= total;
    }
    return context;
  }

  const Attend attend_;
  const int64_t rows_;
  const FloatBuffer input_;
  const FloatBuffer wanted_;
};

absl::Status CheckAttention(Attend attend, ThreadPool& pool, Random& random) {
  for (const int64_t rows : kDocumentRows) {
    const AttentionReference reference(attend, rows, random);
    QSWEEP_RETURN_IF_ERROR(reference.CheckValues());
    QSWEEP_RETURN_IF_ERROR(
        pool.ParallelFor(int64_t{4} * pool.num_threads(), std::stop_token(),
                         [&](int64_t, int) { return reference.CheckAgain(); }));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckProducts(Multiply multiply, const ProductMode& mode,
                           ThreadPool& pool) {
  Random random(20);
  for (const ProductShape& shape : kShapes) {
    const Reference reference(multiply, mode, shape, random);
    QSWEEP_RETURN_IF_ERROR(reference.CheckValues());
    QSWEEP_RETURN_IF_ERROR(reference.CheckPlaces(kTileRows, pool));
  }
  return absl::OkStatus();
}

absl::Status CheckReproducible(Multiply multiply, Attend attend,
                               ThreadPool& pool) {
  QSWEEP_RETURN_IF_ERROR(CheckProducts(multiply, ProductMode(), pool));
  Random random(22);
  return CheckAttention(attend, pool, random);
}

absl::Status CheckShapes(Multiply multiply, const ProductMode& mode,
                         const std::vector<ProductShape>& shapes,
                         double operations, const std::stop_token& stop,
                         ThreadPool& pool) {
  Random random(24);
  for (const ProductShape& shape : shapes) {
    if (stop.stop_requested()) {
      return absl::CancelledError("The run was cancelled.");
    }
    const Reference reference(multiply, mode, shape, random);
    QSWEEP_RETURN_IF_ERROR(reference.CheckValues());
    // Each trial takes two products, on a thread.
    const double trial = 4.0 * kTileRows * static_cast<double>(shape.inputs) *
                         static_cast<double>(shape.outputs);
    const double trials =
        operations / static_cast<double>(shapes.size()) / trial;
    QSWEEP_RETURN_IF_ERROR(
        reference.CheckPlaces(static_cast<int64_t>(std::clamp<double>(
                                  trials, pool.num_threads(), kTileRows)),
                              pool));
  }
  return absl::OkStatus();
}

double MeasureGflops(ThreadPool& pool, const Clock& clock) {
  constexpr int64_t kInputs = 576;
  constexpr int64_t kOutputs = kPanelOutputs;
  constexpr int64_t kRepeats = 8;  // per item
  constexpr int kRounds = 5;
  Random random(21);
  const FloatBuffer values = RandomBuffer(random, kOutputs * kInputs);
  Panel weight;
  weight.Prepare(values.data(), kInputs, kOutputs, ProductMode());
  const FloatBuffer rows = RandomBuffer(random, kTileRows * kInputs);
  std::vector<FloatBuffer> outs;
  for (int thread = 0; thread < pool.num_threads(); ++thread) {
    outs.emplace_back(kTileRows * kOutputs);
  }
  const int64_t items = int64_t{2} * pool.num_threads();
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const SteadyTime begin = clock.SteadyNow();
    const absl::Status status =
        pool.ParallelFor(items, std::stop_token(), [&](int64_t, int thread) {
          for (int64_t i = 0; i < kRepeats; ++i) {
            MultiplyTile(rows.data(), kInputs, weight,
                         outs[static_cast<size_t>(thread)].data(), kOutputs);
          }
          return absl::OkStatus();
        });
    QSWEEP_CHECK(status.ok());
    least = std::min(least, absl::ToDoubleSeconds(clock.SteadyNow() - begin));
  }
  const double flops = 2.0 * kTileRows * kInputs * kOutputs *
                       static_cast<double>(items * kRepeats);
  return flops / std::max(least, 1e-9) / 1e9;
}

}  // namespace qsweep
