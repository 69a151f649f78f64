#ifndef QSWEEP_WORKER_KERNELS_CODED_TENSOR_H_
#define QSWEEP_WORKER_KERNELS_CODED_TENSOR_H_

#include <cstdint>
#include <span>
#include <vector>

namespace qsweep::kernels {

// A matrix as codes: what a calibrated method makes of it once, for every
// configuration. A weight is scale * (code - zero), of its row and the group of
// its column, over the column's scale where there is one. Value type.
struct CodedTensor {
  int64_t rows = 0;
  int64_t columns = 0;
  int bits = 4;
  int64_t groups = 1;                    // of a row
  std::vector<int32_t> group_of_column;  // [columns]
  std::vector<float> column_scales;      // [columns], or none
  std::vector<float> scales;             // [rows, groups]
  std::vector<uint8_t> zeros;            // [rows, groups]
  std::vector<uint8_t> codes;            // [rows, columns]

  bool operator==(const CodedTensor&) const = default;

  // The weights; out: rows * columns.
  void Decode(std::span<float> out) const;
  // Of the rows first..last - 1 alone; out: theirs.
  void DecodeRows(int64_t first, int64_t last, std::span<float> out) const;
};

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CODED_TENSOR_H_
