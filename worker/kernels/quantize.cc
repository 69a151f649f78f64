#include "worker/kernels/quantize.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/kernels/awq.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/hqq.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/quantizer_loops.h"
#include "worker/kernels/rtn.h"
#include "worker/kernels/scheme_options.h"

namespace qsweep::kernels {
namespace {

AwqOptions AwqOptionsOf(const Scheme& scheme, int64_t columns) {
  return {.bits = scheme.bits,
          .group_size = scheme.granularity == Granularity::kGroup
                            ? int64_t{scheme.group}
                            : columns,
          .symmetric = scheme.symmetric,
          .half_scale = scheme.scale == ScaleStorage::kFp16};
}

// An rtn scheme over a matrix, some rows at a time, or some of the tensor where
// it is one group.
class RtnParts {
 public:
  RtnParts(const Scheme& scheme, std::span<const float> weights, int64_t rows,
           int64_t cols)
      : weights_(weights),
        one_group_(scheme.granularity == Granularity::kTensor),
        shape_(RtnShapeOf(scheme, rows, cols)),
        options_(RtnOptionsOf(scheme)),
        step_(one_group_ ? kItemWeights
                         : std::max<int64_t>(kItemWeights / cols, 1) * cols) {}

  // Before Quantize. False: told to stop.
  bool FindRange(const ParallelFor& parallel) {
    if (!one_group_) {
      return true;
    }
    std::vector<std::array<float, 2>> ranges(static_cast<size_t>(count()));
    if (!parallel(count(), [&](int64_t part) {
          const std::span<const float> own = Weights(part);
          BestQuantizerLoops().rtn_range(
              own.data(), static_cast<int64_t>(own.size()), options_,
              ranges[static_cast<size_t>(part)].data());
        })) {
      return false;
    }
    range_ = ranges.front();
    for (const auto& [least, largest] : ranges) {
      range_[0] = std::min(range_[0], least);
      range_[1] = std::max(range_[1], largest);
    }
    return true;
  }

  int64_t count() const {
    return (static_cast<int64_t>(weights_.size()) + step_ - 1) / step_;
  }
  int64_t first(int64_t part) const { return part * step_; }
  std::span<const float> Weights(int64_t part) const {
    const auto begin = static_cast<size_t>(first(part));
    return weights_.subspan(
        begin, std::min(static_cast<size_t>(step_), weights_.size() - begin));
  }

  // out: as many values as the part has weights.
  void Quantize(int64_t part, float* out) const {
    const std::span<const float> own = Weights(part);
    const auto size = static_cast<int64_t>(own.size());
    const auto whole = static_cast<int64_t>(weights_.size());
    if (one_group_) {
      BestQuantizerLoops().rtn_in_range(own.data(), size, whole, range_.data(),
                                        options_, out);
      return;
    }
    RtnShape shape = shape_;
    shape.rows = size / shape.cols;
    shape.whole = whole;
    RtnCpu(own.data(), shape, options_, out, /*scales=*/nullptr,
           /*codes=*/nullptr);
  }

 private:
  const std::span<const float> weights_;
  const bool one_group_;
  const RtnShape shape_;
  const RtnOptions options_;
  const int64_t step_;  // weights of a part
  std::array<float, 2> range_ = {};
};

absl::Status ToldToStop() { return absl::CancelledError("told to stop"); }

// No scale of weights up to this is more than fp16 holds, nor is a span.
constexpr float kFitsHalf = 32000;

// Whether the values are finite where they, or scales, are rounded to fp16:
// those of a scale that is not are not either. parts: with their range.
absl::Status CheckHalf(const Scheme& scheme, const RtnParts& parts,
                       const ParallelFor& parallel) {
  const RtnOptions options = RtnOptionsOf(scheme);
  if (!options.half_scale && !options.half_arithmetic) {
    return absl::OkStatus();
  }
  std::vector<float> magnitudes(static_cast<size_t>(parts.count()));
  if (!parallel(parts.count(), [&](int64_t part) {
        const std::span<const float> own = parts.Weights(part);
        const auto size = static_cast<int64_t>(own.size());
        BestQuantizerLoops().nf4_scales(own.data(), size, size,
                                        &magnitudes[static_cast<size_t>(part)]);
      })) {
    return ToldToStop();
  }
  const float largest = *std::ranges::max_element(magnitudes);
  if (largest <= kFitsHalf) {
    return absl::OkStatus();
  }
  std::atomic<bool> finite = true;
  if (!parallel(parts.count(), [&](int64_t part) {
        std::vector<float> values(parts.Weights(part).size());
        parts.Quantize(part, values.data());
        if (!std::ranges::all_of(values,
                                 [](float x) { return std::isfinite(x); })) {
          finite = false;
        }
      })) {
    return ToldToStop();
  }
  if (finite) {
    return absl::OkStatus();
  }
  const absl::string_view field = options.half_arithmetic ? "arith" : "scale";
  return MakeError(kBadValue,
                   absl::StrCat("weights of up to ", largest,
                                " are too large for ", field, "=fp16"),
                   field, absl::StrCat("Use ", field, "=fp32."));
}

absl::Status FakeQuantizeRtn(const Scheme& scheme,
                             std::span<const float> weights, int64_t rows,
                             int64_t cols, std::span<float> out,
                             const ParallelFor& parallel) {
  RtnParts parts(scheme, weights, rows, cols);
  if (!parts.FindRange(parallel)) {
    return ToldToStop();
  }
  QSWEEP_RETURN_IF_ERROR(CheckHalf(scheme, parts, parallel));
  return parallel(parts.count(),
                  [&](int64_t part) {
                    parts.Quantize(part, out.data() + parts.first(part));
                  })
             ? absl::OkStatus()
             : ToldToStop();
}

}  // namespace

absl::Status FakeQuantize(const Scheme& scheme, std::span<const float> weights,
                          int64_t rows, int64_t cols, std::span<float> out,
                          const ParallelFor& parallel) {
  QSWEEP_CHECK(rows >= 0 && cols >= 0);
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) == rows * cols);
  QSWEEP_CHECK(out.size() == weights.size());
  QSWEEP_RETURN_IF_ERROR(CheckPlainScheme(scheme, rows, cols));
  const int64_t count = rows * cols;
  if (count == 0) {
    return absl::OkStatus();
  }
  bool done = true;
  switch (scheme.method) {
    case Method::kRtn:
      return FakeQuantizeRtn(scheme, weights, rows, cols, out, parallel);
    case Method::kNf4:
      done = Nf4Cpu(weights.data(), count, Nf4OptionsOf(scheme), out.data(),
                    /*absmax=*/nullptr, /*codes=*/nullptr, parallel);
      break;
    case Method::kHqq:
      done = HqqCpu(weights.data(), count, HqqOptionsOf(scheme), out.data(),
                    /*inverse=*/nullptr, /*zeros=*/nullptr, /*codes=*/nullptr,
                    parallel);
      break;
    case Method::kGptq:
    case Method::kAwq:
    case Method::kCheckpoint:
      break;  // refused above
  }
  return done ? absl::OkStatus() : ToldToStop();
}

int64_t FakeQuantizeBytes(const Scheme& scheme, int64_t rows, int64_t cols) {
  const int64_t count = rows * cols;
  if (scheme.method == Method::kHqq) {
    return HqqBytes(count, HqqOptionsOf(scheme));
  }
  return scheme.method == Method::kNf4 && scheme.double_quant
             ? Nf4OptionsOf(scheme).groups(count) *
                   static_cast<int64_t>(sizeof(float))
             : 0;
}

absl::StatusOr<CodedTensor> QuantizeToCodes(const Scheme& scheme,
                                            std::span<const float> weights,
                                            int64_t rows, int64_t cols) {
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) == rows * cols);
  QSWEEP_CHECK(scheme.method == Method::kRtn &&
               scheme.arithmetic == Arithmetic::kFp32);
  QSWEEP_RETURN_IF_ERROR(CheckPlainScheme(scheme, rows, cols));
  CodedTensor coded{.rows = rows, .columns = cols, .bits = scheme.bits};
  if (weights.empty()) {
    return coded;
  }
  const RtnShape shape = RtnShapeOf(scheme, rows, cols);
  RtnParts parts(scheme, weights, rows, cols);
  parts.FindRange(InSequence);
  QSWEEP_RETURN_IF_ERROR(CheckHalf(scheme, parts, InSequence));
  std::vector<float> values(weights.size());
  std::vector<float> scales(
      static_cast<size_t>(shape.rows * shape.groups_per_row()));
  std::vector<int16_t> codes(weights.size());
  RtnCpu(weights.data(), shape, RtnOptionsOf(scheme), values.data(),
         scales.data(), codes.data());
  const bool one_scale = scheme.granularity == Granularity::kTensor;
  const int64_t group_size = one_scale ? cols : shape.group_size;
  coded.groups = one_scale ? 1 : shape.groups_per_row();
  coded.scales.reserve(static_cast<size_t>(rows * coded.groups));
  coded.zeros.reserve(static_cast<size_t>(rows * coded.groups));
  coded.group_of_column.reserve(static_cast<size_t>(cols));
  for (int64_t c = 0; c < cols; ++c) {
    coded.group_of_column.push_back(
        static_cast<int32_t>((c + shape.offset) / group_size));
  }
  // Grids without a zero point have codes below 0.
  const int shift = scheme.grid == Grid::kAbsmax ||
                            (scheme.grid == Grid::kAwq && scheme.symmetric)
                        ? 1 << (scheme.bits - 1)
                        : 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t group = 0; group < coded.groups; ++group) {
      const float scale =
          one_scale ? scales[0]
                    : scales[static_cast<size_t>(row * coded.groups + group)];
      // Any weight of the group tells the zero point: value / scale is within
      // half an ulp of the integer that the code stands for.
      const auto first = static_cast<size_t>(
          row * cols + std::max<int64_t>(group * group_size - shape.offset, 0));
      const int integer =
          scale == 0 ? 0
                     : static_cast<int>(std::nearbyint(values[first] / scale));
      const int zero = codes[first] + shift - integer;
      coded.scales.push_back(scale);
      coded.zeros.push_back(static_cast<uint8_t>(zero));
    }
  }
  coded.codes.reserve(codes.size());
  for (const int16_t code : codes) {
    coded.codes.push_back(static_cast<uint8_t>(code + shift));
  }
  return coded;
}

int64_t QuantizeToCodesBytes(const Scheme& scheme, int64_t rows, int64_t cols) {
  const RtnShape shape = RtnShapeOf(scheme, rows, cols);
  return rows * cols * static_cast<int64_t>(sizeof(float) + sizeof(int16_t)) +
         shape.rows * shape.groups_per_row() *
             static_cast<int64_t>(sizeof(float));
}

int64_t CodedBytes(const Scheme& scheme, int64_t rows, int64_t cols) {
  const int64_t group = scheme.granularity == Granularity::kGroup
                            ? std::max<int64_t>(scheme.group, 1)
                            : cols;
  return rows * cols +
         rows * ((cols + group - 1) / group) *
             static_cast<int64_t>(sizeof(float) + sizeof(uint8_t)) +
         cols * static_cast<int64_t>(sizeof(int32_t) + sizeof(float));
}

absl::StatusOr<GptqFactor> FactorHessian(const Scheme& scheme,
                                         std::span<const float> hessian,
                                         int64_t columns,
                                         absl::string_view tensor,
                                         const ParallelFor& parallel) {
  QSWEEP_CHECK(scheme.method == Method::kGptq);
  QSWEEP_CHECK(static_cast<int64_t>(hessian.size()) == columns * columns);
  GptqFactor factor;
  const double damp = scheme.damp_millionths / 1e6;
  const GptqFactoring done = FactorForGptq(hessian.data(), columns, damp,
                                           scheme.act_order, parallel, factor);
  if (done == GptqFactoring::kStopped) {
    return ToldToStop();
  }
  if (done == GptqFactoring::kSingular) {
    const bool finite = std::all_of(hessian.begin(), hessian.end(),
                                    [](float x) { return std::isfinite(x); });
    return MakeError(kSingularHessian,
                     absl::StrCat("The Hessian of the inputs of ", tensor,
                                  " is ", finite ? "singular" : "not finite",
                                  " at damp=", damp, "."),
                     "damp",
                     finite
                         ? "Use damp=0.1, or more and other calibration texts."
                         : "The model's activations overflow on these texts.");
  }
  return factor;
}

CodedTensor StartCoded(const Scheme& scheme, int64_t rows,
                       const GptqFactor& factor) {
  const GptqOptions options = GptqOptionsOf(scheme);
  CodedTensor coded{.rows = rows,
                    .columns = factor.columns,
                    .bits = scheme.bits,
                    .groups = options.groups_per_row(factor.columns),
                    .group_of_column = GptqGroups(factor, options)};
  coded.scales.resize(static_cast<size_t>(rows * coded.groups));
  coded.zeros.resize(coded.scales.size());
  coded.codes.resize(static_cast<size_t>(rows * coded.columns));
  return coded;
}

void QuantizeRows(const Scheme& scheme, const GptqFactor& factor,
                  std::span<const float> weights, int64_t first, int64_t last,
                  CodedTensor& coded) {
  QSWEEP_CHECK(first <= last && last <= coded.rows);
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) ==
               (last - first) * coded.columns);
  GptqCpu(weights.data(), last - first, factor, GptqOptionsOf(scheme),
          {.codes = coded.codes.data() + first * coded.columns,
           .scales = coded.scales.data() + first * coded.groups,
           .zeros = coded.zeros.data() + first * coded.groups});
}

int64_t QuantizeParts(int64_t rows) {
  return (rows + kQuantizeRows - 1) / kQuantizeRows;
}

void QuantizePart(const Scheme& scheme, const GptqFactor& factor,
                  std::span<const float> weights, int64_t part,
                  CodedTensor& coded) {
  const int64_t first = part * kQuantizeRows;
  const int64_t last = std::min(first + kQuantizeRows, coded.rows);
  QuantizeRows(
      scheme, factor,
      weights.subspan(static_cast<size_t>(first * coded.columns),
                      static_cast<size_t>((last - first) * coded.columns)),
      first, last, coded);
}

CodedTensor StartAwq(const Scheme& scheme, int64_t rows,
                     std::span<const float> column_scales) {
  const auto columns = static_cast<int64_t>(column_scales.size());
  const AwqOptions options = AwqOptionsOf(scheme, columns);
  QSWEEP_CHECK(columns % options.group_size == 0);
  CodedTensor coded{
      .rows = rows,
      .columns = columns,
      .bits = scheme.bits,
      .groups = options.groups_per_row(columns),
      .column_scales = {column_scales.begin(), column_scales.end()}};
  for (int64_t c = 0; c < columns; ++c) {
    coded.group_of_column.push_back(
        static_cast<int32_t>(c / options.group_size));
  }
  coded.scales.resize(static_cast<size_t>(rows * coded.groups));
  coded.zeros.resize(coded.scales.size());
  coded.codes.resize(static_cast<size_t>(rows * columns));
  return coded;
}

bool QuantizeAwqRows(const Scheme& scheme, std::span<const float> weights,
                     std::span<const float> grams, int64_t first, int64_t last,
                     CodedTensor& coded, const Stopped& stopped) {
  const AwqOptions options = AwqOptionsOf(scheme, coded.columns);
  QSWEEP_CHECK(first <= last && last <= coded.rows);
  QSWEEP_CHECK(static_cast<int64_t>(weights.size()) ==
               (last - first) * coded.columns);
  QSWEEP_CHECK(grams.empty() ||
               static_cast<int64_t>(grams.size()) ==
                   coded.groups * AwqGramSize(options.group_size));
  std::vector<float> limits(
      grams.empty() ? 0 : static_cast<size_t>((last - first) * coded.groups));
  if (!grams.empty() && !AwqLimits(weights.data(), last - first, coded.columns,
                                   coded.column_scales.data(), grams.data(),
                                   options, stopped, limits.data())) {
    return false;
  }
  AwqCpu(weights.data(), last - first, coded.columns,
         coded.column_scales.data(), grams.empty() ? nullptr : limits.data(),
         options,
         {.codes = coded.codes.data() + first * coded.columns,
          .scales = coded.scales.data() + first * coded.groups,
          .zeros = coded.zeros.data() + first * coded.groups});
  return true;
}

}  // namespace qsweep::kernels
