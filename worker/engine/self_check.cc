#include "worker/engine/self_check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stop_token>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "worker/engine/products.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

using kernels::FloatBuffer;
using kernels::kTileRows;
using kernels::RowStride;

struct Shape {
  int64_t inputs;
  int64_t outputs;
};
// Sizes that fill the library's blocks and sizes that do not.
constexpr Shape kShapes[] = {{64, 48}, {50, 131}, {1600, 49}};

FloatBuffer RandomBuffer(Random& random, int64_t size) {
  FloatBuffer buffer(size);
  for (int64_t i = 0; i < size; ++i) {
    buffer.data()[i] = static_cast<float>(random.Uniform() - 0.5);
  }
  return buffer;
}

// The rows' products in one full tile: what every other way must equal.
class Reference {
 public:
  Reference(Multiply multiply, const Shape& shape, Random& random)
      : multiply_(multiply),
        shape_(shape),
        stride_(RowStride(shape.outputs)),
        weight_(shape.outputs, shape.inputs),
        rows_(RandomBuffer(random, kTileRows * shape.inputs)),
        wanted_(kTileRows * stride_) {
    const FloatBuffer weights =
        RandomBuffer(random, shape.outputs * shape.inputs);
    std::memcpy(weight_.row(0), weights.data(),
                Bytes(shape.outputs * shape.inputs));
    Fill(rows_.data(), wanted_.data());
  }

  // Against sums in double.
  absl::Status CheckValues() const {
    for (int64_t r = 0; r < kTileRows; r += 9) {
      for (int64_t o = 0; o < shape_.outputs; ++o) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < shape_.inputs; ++i) {
          const double term =
              static_cast<double>(rows_.data()[r * shape_.inputs + i]) *
              static_cast<double>(weight_.row(o)[i]);
          sum += term;
          magnitude += std::abs(term);
        }
        const double got = static_cast<double>(wanted_.data()[r * stride_ + o]);
        if (!(std::abs(got - sum) <= 1e-5 * magnitude + 1e-6)) {
          return Failed(absl::StrCat("a product is ", got, ", not ", sum));
        }
      }
    }
    return absl::OkStatus();
  }

  // Rotates the rows by `shift` places, so that each has another place, and
  // replaces the rows from `height` on, so that the others have other
  // neighbours.
  absl::Status CheckPlace(int64_t shift, int height) const {
    FloatBuffer moved(kTileRows * shape_.inputs);
    for (int64_t r = 0; r < height; ++r) {
      std::memcpy(moved.data() + r * shape_.inputs,
                  rows_.data() + Source(r, shift) * shape_.inputs,
                  Bytes(shape_.inputs));
    }
    FloatBuffer out(kTileRows * stride_);
    Fill(moved.data(), out.data());
    for (int64_t r = 0; r < height; ++r) {
      if (std::memcmp(out.data() + r * stride_,
                      wanted_.data() + Source(r, shift) * stride_,
                      Bytes(shape_.outputs)) != 0) {
        return Failed(absl::StrCat("row ", Source(r, shift),
                                   " of a product changes at place ", r, " of ",
                                   height));
      }
    }
    return absl::OkStatus();
  }

 private:
  static int64_t Source(int64_t row, int64_t shift) {
    return (row + shift) % kTileRows;
  }
  static size_t Bytes(int64_t floats) {
    return static_cast<size_t>(floats) * sizeof(float);
  }
  static absl::Status Failed(absl::string_view what) {
    return MakeError(
        kSelfCheckFailed,
        absl::StrCat("The start-up check failed with ", ProductsVersion(), ": ",
                     what, "."),
        "", "This machine computes unreliably: do not use it for results.");
  }
  void Fill(const float* rows, float* out) const {
    multiply_(rows, shape_.inputs, weight_, 0, shape_.outputs, out, stride_);
  }

  const Multiply multiply_;
  const Shape shape_;
  const int64_t stride_;
  Matrix weight_;
  FloatBuffer rows_;
  FloatBuffer wanted_;
};

}  // namespace

absl::Status CheckReproducible(Multiply multiply, ThreadPool& pool) {
  Random random(20);
  for (const Shape& shape : kShapes) {
    const Reference reference(multiply, shape, random);
    if (absl::Status status = reference.CheckValues(); !status.ok()) {
      return status;
    }
    // Every place and every number of neighbours, spread over the threads.
    const absl::Status status =
        pool.ParallelFor(kTileRows, std::stop_token(), [&](int64_t shift, int) {
          absl::Status places = reference.CheckPlace(shift, kTileRows);
          return places.ok()
                     ? reference.CheckPlace(shift, static_cast<int>(shift) + 1)
                     : places;
        });
    if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

double MeasureGflops(ThreadPool& pool) {
  constexpr int64_t kInputs = 576;
  constexpr int64_t kOutputs = 384;
  constexpr int64_t kRepeats = 8;  // per item
  Random random(21);
  Matrix weight(kOutputs, kInputs);
  for (int64_t i = 0; i < kOutputs * kInputs; ++i) {
    weight.row(0)[i] = static_cast<float>(random.Uniform() - 0.5);
  }
  const FloatBuffer rows = RandomBuffer(random, kTileRows * kInputs);
  std::vector<FloatBuffer> outs;
  for (int thread = 0; thread < pool.num_threads(); ++thread) {
    outs.emplace_back(kTileRows * kOutputs);
  }
  const int64_t items = int64_t{8} * pool.num_threads();
  const SteadyTime begin = Clock::Real().SteadyNow();
  const absl::Status status =
      pool.ParallelFor(items, std::stop_token(), [&](int64_t, int thread) {
        for (int64_t i = 0; i < kRepeats; ++i) {
          MultiplyTile(rows.data(), kInputs, weight, 0, kOutputs,
                       outs[static_cast<size_t>(thread)].data(), kOutputs);
        }
        return absl::OkStatus();
      });
  const double seconds =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin);
  const double flops = 2.0 * kTileRows * kInputs * kOutputs *
                       static_cast<double>(items * kRepeats);
  return status.ok() ? flops / std::max(seconds, 1e-9) / 1e9 : 0;
}

}  // namespace qsweep
