#ifndef QSWEEP_TESTS_SUPPORT_KERNEL_REFERENCES_H_
#define QSWEEP_TESTS_SUPPORT_KERNEL_REFERENCES_H_

#include <cstdint>
#include <vector>

#include "worker/kernels/cuda_types.h"
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
