#ifndef QSWEEP_WORKER_KERNELS_LOOPS_BLOCK_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_BLOCK_H_

// Row by row work of a decoder block.

#include <bit>
#include <cmath>

#include "worker/kernels/loops/vector.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep::kernels {
namespace {

void RmsNorm(const float* x, const float* gain, int64_t n, float eps,
             float* out) {
  Vec squares = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = Load(x + i);
    squares += v * v;
  }
  double sum = Sum(squares);
  for (; i < n; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  const auto mean = static_cast<float>(sum / static_cast<double>(n));
  const float scale = 1.0F / std::sqrt(mean + eps);
  for (i = 0; i + kLanes <= n; i += kLanes) {
    Store(out + i, Load(x + i) * scale * Load(gain + i));
  }
  for (; i < n; ++i) {
    out[i] = x[i] * scale * gain[i];
  }
}

void Rotate(float* row, int heads, int head_dim, const float* cosines,
            const float* sines) {
  const int half = head_dim / 2;
  for (int head = 0; head < heads; ++head, row += head_dim) {
    float* const low = row;
    float* const high = row + half;
    int i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Vec a = Load(low + i);
      const Vec b = Load(high + i);
      const Vec c = Load(cosines + i);
      const Vec s = Load(sines + i);
      Store(low + i, a * c - b * s);
      Store(high + i, b * c + a * s);
    }
    for (; i < half; ++i) {
      const float a = low[i];
      const float b = high[i];
      low[i] = a * cosines[i] - b * sines[i];
      high[i] = b * cosines[i] + a * sines[i];
    }
  }
}

// silu(x) = x / (1 + exp(-x)), with exp of a number that is never positive.
QSWEEP_LOOP Vec Silu(Vec x) {
  const Vec zero = {};
  const Vec e = Exp(x > zero ? -x : x);
  const Vec sigmoid = (x > zero ? Broadcast(1.0F) : e) / (1.0F + e);
  return x * sigmoid;
}

void SiluMultiply(float* gate, const float* up, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Store(gate + i, Silu(Load(gate + i)) * Load(up + i));
  }
  if (i < n) {
    float x[kLanes] = {};
    for (int64_t j = i; j < n; ++j) {
      x[j - i] = gate[j];
    }
    Store(x, Silu(Load(x)));
    for (int64_t j = i; j < n; ++j) {
      gate[j] = x[j - i] * up[j];
    }
  }
}

void Add(const float* x, const float* y, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Store(out + i, Load(x + i) + Load(y + i));
  }
  for (; i < n; ++i) {
    out[i] = x[i] + y[i];
  }
}

// The bits of x with those below bfloat16's rounded away.
QSWEEP_LOOP uint32_t Bf16Bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
  // Rounding would carry a NaN into the sign.
  return (bits & 0x7FFFFFFFU) > 0x7F800000U ? 0x7FC00000U : rounded;
}

void RoundToBf16(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = std::bit_cast<float>(Bf16Bits(x[i]));
  }
}

void ToBf16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint16_t>(Bf16Bits(x[i]) >> 16);
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_BLOCK_H_
