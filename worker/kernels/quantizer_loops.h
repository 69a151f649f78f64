#ifndef QSWEEP_WORKER_KERNELS_QUANTIZER_LOOPS_H_
#define QSWEEP_WORKER_KERNELS_QUANTIZER_LOOPS_H_

#include <cstdint>
#include <span>

#include "worker/kernels/gptq_blocks.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {

// The inner loops of the quantizers, compiled for one kind of CPU each. Plain
// pointers; any thread, one call uses one.

// T: float or double. Products and sums are fused where the CPU can: two sets
// of bits, QuantizerLoops::fused says which. An element's bits depend on its
// own row and column alone, not on what is computed beside it.
template <typename T>
struct PanelLoops {
  // c -= a b. a: [rows, kPanel * terms], b: [kPanel * terms, kPanel * panels],
  // c: [rows, kPanel * panels]; x_step: from a panel to the next.
  void (*subtract_product)(const T* a, int64_t a_step, const T* b,
                           int64_t b_step, int64_t terms, T* c, int64_t c_step,
                           int64_t rows, int64_t panels);
  // [kBlock, kBlock] by rows. The upper triangle of `block` becomes R, with
  // block = R R^T and R upper triangular; inverse: R^-1. The other triangles
  // become zero. False: a pivot is not above `smallest`, or not finite.
  bool (*factor_block)(T* block, T smallest, T* inverse);
};

// Rows of a block on their way through its columns, one after another.
struct ColumnBlock {
  int64_t columns = 0;             // at most kBlock
  int64_t rows = 0;                // a multiple of 8
  float* weights = nullptr;        // [columns, rows], used up
  const float* inverse = nullptr;  // [columns, kBlock], upper triangle
  // Of each column: scale, zero, lowest and highest integer, [4, rows].
  const float* const* parameters = nullptr;
  float* values = nullptr;   // [columns, rows]: integer * scale
  uint8_t* codes = nullptr;  // [columns, rows]: integer + zero
};

struct QuantizerLoops {
  const char* name;    // "avx2"
  bool fused = false;  // PanelLoops: all that are have the same bits
  PanelLoops<float> fp32;
  PanelLoops<double> fp64;

  // The same bits on every CPU: each operation is rounded by itself.
  void (*round_columns)(const ColumnBlock& block);
  // RtnCpu, in fp32 and in fp16.
  void (*rtn)(const float* weights, const RtnShape& shape,
              const RtnOptions& options, float* out, float* scales,
              int16_t* codes);
  void (*rtn_half)(const float* weights, const RtnShape& shape,
                   const RtnOptions& options, float* out, float* scales,
                   int16_t* codes);
  // RtnCpu for parts of one group. The least and the largest of some weights,
  // `range`; and the values of some weights of a group whose range that is, of
  // `whole` weights.
  void (*rtn_range)(const float* weights, int64_t count,
                    const RtnOptions& options, float* range);
  void (*rtn_in_range)(const float* weights, int64_t count, int64_t whole,
                       const float* range, const RtnOptions& options,
                       float* out);
  // Nf4Cpu for groups whose scales are given; nullptr: each has its largest
  // magnitude.
  void (*nf4)(const float* weights, int64_t count, int64_t group_size,
              const float* scales, float* out, float* absmax, uint8_t* codes);
  // The largest magnitude of each group.
  void (*nf4_scales)(const float* weights, int64_t count, int64_t group_size,
                     float* scales);
};

// The best for this CPU. The same for the whole life of the process.
const QuantizerLoops& BestQuantizerLoops();
// All that this CPU can run, the slowest first.
std::span<const QuantizerLoops* const> AvailableQuantizerLoops();

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_QUANTIZER_LOOPS_H_
