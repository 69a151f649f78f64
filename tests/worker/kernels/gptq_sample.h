#ifndef QSWEEP_TESTS_WORKER_KERNELS_GPTQ_SAMPLE_H_
#define QSWEEP_TESTS_WORKER_KERNELS_GPTQ_SAMPLE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qsweep::kernels {

// The numbers of tests/golden/make_gptq.py.
class Generator {
 public:
  int Next(int n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state_ >> 33) % static_cast<uint64_t>(n));
  }

 private:
  uint64_t state_ = 1;
};

struct Sample {
  static constexpr int64_t kRows = 64;
  static constexpr int64_t kColumns = 256;
  static constexpr int64_t kSamples = 512;

  Sample() {
    Generator generator;
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      const float weight =
          static_cast<float>(generator.Next(2097153) - 1048576) / 4194304;
      weights.push_back(i % kColumns % 37 == 0 ? 4 * std::fabs(weight)
                                               : weight);
    }
    std::vector<float> x(kColumns);
    hessian.resize(kColumns * kColumns);
    for (int64_t s = 0; s < kSamples; ++s) {
      const int shared = generator.Next(7) - 3;
      int before = 0;
      for (size_t c = 0; c < kColumns; ++c) {
        const int own = generator.Next(17) - 8;
        x[c] = static_cast<float>((own + before + 2 * shared) *
                                  (c % 8 == 0 ? 3 : 1));
        before = own;
      }
      x[5] = 0;
      x[77] = 0;
      for (size_t i = 0; i < kColumns; ++i) {
        for (size_t j = 0; j < kColumns; ++j) {
          hessian[i * kColumns + j] += x[i] * x[j];
        }
      }
    }
    for (float& value : hessian) {
      value *= 2.0f / kSamples;
    }
  }

  // The squared error of the layer's outputs over the outputs' square.
  double ErrorOf(const std::vector<float>& values) const {
    const auto norm = [this](const std::vector<double>& rows) {
      double sum = 0;
      for (size_t r = 0; r < kRows; ++r) {
        const double* const row = rows.data() + r * kColumns;
        for (size_t i = 0; i < kColumns; ++i) {
          for (size_t j = 0; j < kColumns; ++j) {
            sum += row[i] * static_cast<double>(hessian[i * kColumns + j]) *
                   row[j];
          }
        }
      }
      return sum;
    };
    std::vector<double> all(weights.begin(), weights.end());
    std::vector<double> lost;
    for (size_t i = 0; i < values.size(); ++i) {
      lost.push_back(all[i] - static_cast<double>(values[i]));
    }
    return norm(lost) / norm(all);
  }

  std::vector<float> weights;
  std::vector<float> hessian;
};

inline std::vector<float> Identity(int64_t columns, float scale = 1) {
  std::vector<float> hessian(static_cast<size_t>(columns * columns));
  for (int64_t i = 0; i < columns; ++i) {
    hessian[static_cast<size_t>(i * columns + i)] = scale;
  }
  return hessian;
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_TESTS_WORKER_KERNELS_GPTQ_SAMPLE_H_
