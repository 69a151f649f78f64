#ifndef QSWEEP_WORKER_KERNELS_INTEGER_BIAS_H_
#define QSWEEP_WORKER_KERNELS_INTEGER_BIAS_H_

namespace qsweep::kernels {

// Added to |x| < 2^22 it leaves no bit for a fraction, so the addition itself
// rounds to an integer, halves to even; subtracted again, the integer is there.
// Never fused, never reordered.
inline constexpr float kIntegerBias = 0x1.8p23f;

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_INTEGER_BIAS_H_
