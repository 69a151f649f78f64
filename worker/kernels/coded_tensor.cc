#include "worker/kernels/coded_tensor.h"

#include <cstddef>

#include "common/base/check.h"

namespace qsweep::kernels {

void CodedTensor::Decode(std::span<float> out) const {
  DecodeRows(0, rows, out);
}

void CodedTensor::DecodeRows(int64_t first, int64_t last,
                             std::span<float> out) const {
  QSWEEP_CHECK(0 <= first && first <= last && last <= rows);
  QSWEEP_CHECK(static_cast<int64_t>(out.size()) == (last - first) * columns);
  for (int64_t r = first; r < last; ++r) {
    const uint8_t* const row = codes.data() + r * columns;
    for (int64_t c = 0; c < columns; ++c) {
      const auto group = static_cast<size_t>(
          r * groups + group_of_column[static_cast<size_t>(c)]);
      const int integer = row[c] - zeros[group];
      const float value = scales[group] * static_cast<float>(integer);
      out[static_cast<size_t>((r - first) * columns + c)] =
          column_scales.empty() ? value
                                : value / column_scales[static_cast<size_t>(c)];
    }
  }
}

}  // namespace qsweep::kernels
