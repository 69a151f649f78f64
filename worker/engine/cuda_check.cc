#include "worker/engine/cuda_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/products.h"
#include "worker/kernels/rtn.h"

namespace qsweep {
namespace {

using kernels::FloatType;

constexpr int64_t kFloat = sizeof(float);

// Sizes of small and large models, and one that fills no block.
constexpr DeviceProduct kProducts[] = {{576, 1536}, {4096, 4096}, {1544, 200}};

// Sums in double of one product.
constexpr int64_t kMostTerms = int64_t{1} << 22;

absl::Status Failed(absl::string_view what) {
  return MakeError(kSelfCheckFailed,
                   absl::StrCat("The check of products failed on the GPU with ",
                                ProductsVersion(), ": ", what, "."),
                   "",
                   "Do not use this GPU for results: run with --device cpu.");
}

// Numbers that the type holds exactly; random up to a prime number of them, by
// which no row begins alike.
std::vector<float> RandomFloats(Random& random, int64_t size,
                                FloatType type = FloatType::kFp32) {
  constexpr size_t kPeriod = 65521;
  std::vector<float> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    if (i >= kPeriod) {
      values[i] = values[i - kPeriod];
      continue;
    }
    values[i] = static_cast<float>(random.Uniform() - 0.5);
    if (type == FloatType::kFp16) {
      values[i] = kernels::RoundToHalf(values[i]);
    }
  }
  return values;
}

int64_t Size(const std::vector<float>& values) {
  return static_cast<int64_t>(values.size());
}

// As the products read them.
absl::StatusOr<DeviceBuffer> OnDevice(const std::vector<float>& values,
                                      FloatType type) {
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer wide, DeviceBuffer::Of(values));
  QSWEEP_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                          DeviceBuffer::Allocate(Size(values) * BytesOf(type)));
  QSWEEP_RETURN_IF_ERROR(ConvertOnDevice(wide.data(), FloatType::kFp32,
                                         Size(values), buffer.data(), type));
  return buffer;
}

// A tile's rows, rotated by some places, times the weights.
class ProductCheck {
 public:
  ProductCheck(const DeviceProduct& shape, FloatType type, Random& random)
      : shape_(shape),
        type_(type),
        rows_(RandomFloats(random, kDeviceTileRows * shape.inputs, type)),
        weights_(RandomFloats(random, shape.outputs * shape.inputs, type)) {}

  absl::Status Run() {
    QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer weights,
                            OnDevice(weights_, type_));
    QSWEEP_ASSIGN_OR_RETURN(const std::vector<float> wanted,
                            Product(weights, 0));
    QSWEEP_RETURN_IF_ERROR(CheckValues(wanted));
    for (const int64_t shift : {1, 64, 777}) {
      QSWEEP_ASSIGN_OR_RETURN(const std::vector<float> got,
                              Product(weights, shift));
      for (int64_t r = 0; r < kDeviceTileRows; ++r) {
        const int64_t source = (r + shift) % kDeviceTileRows;
        if (std::memcmp(got.data() + r * shape_.outputs,
                        wanted.data() + source * shape_.outputs,
                        static_cast<size_t>(shape_.outputs * kFloat)) != 0) {
          return Failed(absl::StrCat("row ", source, " of a product of ",
                                     shape_.inputs, " by ", shape_.outputs,
                                     " changes at place ", r));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::vector<float>> Product(const DeviceBuffer& weights,
                                             int64_t shift) {
    std::vector<float> moved(rows_.begin() + shift * shape_.inputs,
                             rows_.end());
    moved.insert(moved.end(), rows_.begin(),
                 rows_.begin() + shift * shape_.inputs);
    QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer rows, OnDevice(moved, type_));
    std::vector<float> out(
        static_cast<size_t>(kDeviceTileRows * shape_.outputs));
    QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer result,
                            DeviceBuffer::Allocate(Size(out) * kFloat));
    QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(rows.data(), kDeviceTileRows,
                                            {.values = weights.data(),
                                             .type = type_,
                                             .outputs = shape_.outputs,
                                             .inputs = shape_.inputs},
                                            result.floats()));
    QSWEEP_RETURN_IF_ERROR(
        CopyFromDevice(out.data(), result.data(), Size(out) * kFloat));
    return out;
  }

  // Against sums in double, of some rows and columns.
  absl::Status CheckValues(const std::vector<float>& product) const {
    constexpr int64_t kRowStep = 211;
    const int64_t step = 1 + kDeviceTileRows / kRowStep * shape_.outputs *
                                 shape_.inputs / kMostTerms;
    for (int64_t r = 0; r < kDeviceTileRows; r += kRowStep) {
      for (int64_t o = r % step; o < shape_.outputs; o += step) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < shape_.inputs; ++i) {
          const double term =
              static_cast<double>(
                  rows_[static_cast<size_t>(r * shape_.inputs + i)]) *
              static_cast<double>(
                  weights_[static_cast<size_t>(o * shape_.inputs + i)]);
          sum += term;
          magnitude += std::abs(term);
        }
        const auto got = static_cast<double>(
            product[static_cast<size_t>(r * shape_.outputs + o)]);
        if (!(std::abs(got - sum) <= 1e-5 * magnitude + 1e-6)) {
          return Failed(absl::StrCat("a product is ", got, ", not ", sum));
        }
      }
    }
    return absl::OkStatus();
  }

  const DeviceProduct shape_;
  const FloatType type_;
  const std::vector<float> rows_;
  const std::vector<float> weights_;
};

// One document in several states, as the machine lays it out.
class AttentionCheck {
 public:
  AttentionCheck(int64_t rows, Random& random)
      : rows_(rows), qkv_(RandomFloats(random, kStates * rows * kStride)) {}

  absl::Status Run() {
    QSWEEP_ASSIGN_OR_RETURN(const std::vector<float> together,
                            Attend(0, kStates));
    for (int64_t state = 0; state < kStates; ++state) {
      QSWEEP_RETURN_IF_ERROR(CheckValues(together, state));
      QSWEEP_ASSIGN_OR_RETURN(const std::vector<float> alone, Attend(state, 1));
      if (std::memcmp(alone.data(), together.data() + state * rows_ * kQueries,
                      alone.size() * sizeof(float)) != 0) {
        return Failed(absl::StrCat("the attention of a document of ", rows_,
                                   " tokens changes beside other states"));
      }
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kStates = 3;
  static constexpr int kHeads = 4;
  static constexpr int kKvHeads = 2;
  static constexpr int kHeadDim = 64;
  static constexpr int64_t kQueries = kHeads * kHeadDim;
  static constexpr int64_t kStride = (kHeads + 2 * kKvHeads) * kHeadDim;

  absl::StatusOr<std::vector<float>> Attend(int64_t first, int64_t states) {
    QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer qkv, DeviceBuffer::Of(qkv_));
    std::vector<float> context(static_cast<size_t>(states * rows_ * kQueries));
    QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer result,
                            DeviceBuffer::Allocate(Size(context) * kFloat));
    const float* const queries = qkv.floats() + first * rows_ * kStride;
    QSWEEP_RETURN_IF_ERROR(
        AttendOnDevice({.queries = queries,
                        .keys = queries + kQueries,
                        .values = queries + kQueries + kKvHeads * kHeadDim,
                        .state_stride = rows_ * kStride,
                        .row_stride = kStride,
                        .states = states,
                        .rows = rows_,
                        .heads = kHeads,
                        .kv_heads = kKvHeads,
                        .head_dim = kHeadDim,
                        .context = result.data(),
                        .context_state_stride = rows_ * kQueries}));
    QSWEEP_RETURN_IF_ERROR(
        CopyFromDevice(context.data(), result.data(), Size(context) * kFloat));
    return context;
  }

  absl::Status CheckValues(const std::vector<float>& context,
                           int64_t state) const {
    for (int64_t row = 0; row < rows_; row += 7) {
      for (int head = 0; head < kHeads; ++head) {
        const std::vector<double> wanted = Context(state, row, head);
        for (int i = 0; i < kHeadDim; ++i) {
          const auto got = static_cast<double>(context[static_cast<size_t>(
              (state * rows_ + row) * kQueries + head * kHeadDim + i)]);
          const double want = wanted[static_cast<size_t>(i)];
          if (!(std::abs(got - want) <= 1e-5)) {
            return Failed(
                absl::StrCat("an attention is ", got, ", not ", want));
          }
        }
      }
    }
    return absl::OkStatus();
  }

  std::vector<double> Context(int64_t state, int64_t row, int head) const {
    const float* const base = qkv_.data() + state * rows_ * kStride;
    const int kv_head = head / (kHeads / kKvHeads);
    const float* const query = base + row * kStride + head * kHeadDim;
    std::vector<double> context(kHeadDim);
    double total = 0;
    for (int64_t past = 0; past <= row; ++past) {
      const float* const key =
          base + past * kStride + kQueries + kv_head * kHeadDim;
      const float* const value = key + kKvHeads * kHeadDim;
      double score = 0;
      for (int i = 0; i < kHeadDim; ++i) {
        score += static_cast<double>(query[i]) * static_cast<double>(key[i]);
      }
      const double weight = std::exp(score / std::sqrt(double{kHeadDim}));
      total += weight;
      for (int i = 0; i < kHeadDim; ++i) {
        context[static_cast<size_t>(i)] +=
            weight * static_cast<double>(value[i]);
      }
    }
    for (double& value : context) {
      value /= total;
    }
    return context;
  }

  const int64_t rows_;
  const std::vector<float> qkv_;
};

}  // namespace

absl::Status CheckCudaProducts() {
  QSWEEP_RETURN_IF_ERROR(
      CheckCudaProductsOf({std::begin(kProducts), std::end(kProducts)}, {}));
  Random random(22);
  for (const int64_t rows : {9, 150}) {
    QSWEEP_RETURN_IF_ERROR(AttentionCheck(rows, random).Run());
  }
  return absl::OkStatus();
}

absl::Status CheckCudaProductsOf(const std::vector<DeviceProduct>& products,
                                 const std::stop_token& stop) {
  Random random(24);
  for (const FloatType type : {FloatType::kFp32, FloatType::kFp16}) {
    for (const DeviceProduct& product : products) {
      if (stop.stop_requested()) {
        return absl::CancelledError("The run was cancelled.");
      }
      QSWEEP_RETURN_IF_ERROR(ProductCheck(product, type, random).Run());
    }
  }
  return absl::OkStatus();
}

double MeasureCudaGflops() {
  constexpr int64_t kInputs = 2048;
  constexpr int64_t kOutputs = 2048;
  constexpr int kRepeats = 8;
  Random random(23);
  const auto rows =
      DeviceBuffer::Of(RandomFloats(random, kDeviceTileRows * kInputs));
  const auto weights =
      DeviceBuffer::Of(RandomFloats(random, kOutputs * kInputs));
  const auto out = DeviceBuffer::Allocate(kDeviceTileRows * kOutputs * kFloat);
  if (!rows.ok() || !weights.ok() || !out.ok()) {
    return 0;
  }
  const DeviceMatrix weight = {
      .values = weights->data(), .outputs = kOutputs, .inputs = kInputs};
  const auto multiply = [&](int times) {
    absl::Status status;
    for (int i = 0; i < times && status.ok(); ++i) {
      status = MultiplyOnDevice(rows->data(), kDeviceTileRows, weight,
                                out->floats());
    }
    return status.ok() ? Synchronize(ComputeStream()) : status;
  };
  if (!multiply(1).ok()) {  // the library loads its kernels
    return 0;
  }
  const SteadyTime begin = Clock::Real().SteadyNow();
  if (!multiply(kRepeats).ok()) {
    return 0;
  }
  const double seconds =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin);
  return 2.0 * kDeviceTileRows * kInputs * kOutputs * kRepeats /
         std::max(seconds, 1e-9) / 1e9;
}

}  // namespace qsweep
