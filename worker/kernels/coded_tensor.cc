#include "worker/kernels/coded_tensor.h"

#include <cstddef>

#include "common/base/check.h"

namespace qsweep::kernels {

void CodedTensor::Decode(std::span<float> out) const {
  QSWEEP_CHECK(static_cast<int64_t>(out.size()) == rows * columns);
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* const row = codes.data() + r * columns;
    for (int64_t c = 0; c < columns; ++c) {
      const auto group = static_cast<size_t>(
          r * groups + group_of_column[static_cast<size_t>(c)]);
      const int integer = row[c] - zeros[group];
      const float value = scales[group] * static_cast<float>(integer);
      out[static_cast<size_t>(r * columns + c)] =
          column_scales.empty() ? value
                                : value / column_scales[static_cast<size_t>(c)];
    }
  }
}

}  // namespace qsweep::kernels
