#ifndef QSWEEP_TESTS_SUPPORT_KERNEL_REFERENCES_H_
#define QSWEEP_TESTS_SUPPORT_KERNEL_REFERENCES_H_

#include <cstdint>
#include <vector>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/hqq.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/rtn.h"

// What kernels must compute, in plain loops over doubles. Shares no arithmetic
// with the kernels, nor with the CPU's loops.
namespace qsweep::testing {

// The nearest number of the format, halves to even; infinity where it is too
// large. The result of one fp32 operation on fp32 numbers is its exact double
// rounded by this.
double RoundTo(kernels::FloatType type, double value);

// A number as a device buffer of the format holds it, and back.
uint32_t Encode(kernels::FloatType type, double value);
double Decode(kernels::FloatType type, uint32_t bits);

struct RtnReference {
  std::vector<double> values;  // before they are rounded to the output's type
  std::vector<double> scales;
  std::vector<int16_t> codes;
};
RtnReference RtnByLoops(const std::vector<double>& weights,
                        kernels::RtnShape shape, kernels::RtnOptions options);

struct Nf4Reference {
  std::vector<double> values;
  std::vector<double> scales;
  std::vector<uint8_t> codes;
};
Nf4Reference Nf4ByLoops(const std::vector<double>& weights,
                        kernels::Nf4Options options);

struct HqqReference {
  std::vector<double> values;
  std::vector<double> inverse;  // of each group, as are zeros
  std::vector<double> zeros;
  std::vector<uint8_t> codes;
};
HqqReference HqqByLoops(const std::vector<double>& weights,
                        kernels::HqqOptions options);

// weights: [rows, factor.columns]. The factor is taken as it is.
struct GptqReference {
  std::vector<uint8_t> codes;
  std::vector<double> scales;  // [rows, groups], as are zeros
  std::vector<uint8_t> zeros;
};
GptqReference GptqByLoops(const std::vector<double>& weights, int64_t rows,
                          const kernels::GptqFactor& factor,
                          kernels::GptqOptions options);

// Of one row of logits, by the plain formulas.
struct HeadReference {
  double nll = 0;
  double kl = 0;  // KL(baseline || this)
  int64_t argmax = 0;
};
HeadReference HeadByLoops(const std::vector<float>& logits,
                          const std::vector<float>& baseline, int64_t gold);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_KERNEL_REFERENCES_H_
