#include "worker/engine/weights.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr int64_t kPartRows = 64;  // of a tensor, by one thread at a time

int64_t Rows(const TensorDescription& tensor) {
  return tensor.shape.size() < 2 ? 1 : tensor.shape[0];
}

int64_t Columns(const TensorDescription& tensor) {
  return tensor.num_elements() / Rows(tensor);
}

// Where a tensor of a block goes.
struct Place {
  Matrix* matrix = nullptr;  // from row first_row
  kernels::FloatBuffer* gains = nullptr;
  int64_t first_row = 0;
};

// Sizes of the query, key and value parts of qkv.
struct QkvRows {
  int64_t q = 0, k = 0, v = 0;
};

Place PlaceOf(Component component, const QkvRows& rows, BlockWeights& weights) {
  switch (component) {
    case Component::kQ:
      return {.matrix = &weights.qkv};
    case Component::kK:
      return {.matrix = &weights.qkv, .first_row = rows.q};
    case Component::kV:
      return {.matrix = &weights.qkv, .first_row = rows.q + rows.k};
    case Component::kO:
      return {.matrix = &weights.o};
    case Component::kGate:
      return {.matrix = &weights.gate};
    case Component::kUp:
      return {.matrix = &weights.up};
    case Component::kDown:
      return {.matrix = &weights.down};
    case Component::kNorm1:
      return {.gains = &weights.norm1};
    case Component::kNorm2:
      return {.gains = &weights.norm2};
    default:
      return {};
  }
}

}  // namespace

absl::StatusOr<StageTensors> StageTensors::Read(const Checkpoint& checkpoint,
                                                const ModelDescription& model,
                                                const Stage& stage,
                                                ThreadPool& pool,
                                                const std::stop_token& stop) {
  StageTensors result;
  result.model_ = &model;
  for (const int index : stage.tensors) {
    const TensorDescription& description =
        model.tensors[static_cast<size_t>(index)];
    result.tensors_.push_back(
        {.description = &description,
         .values = kernels::FloatBuffer(description.num_elements())});
  }
  QSWEEP_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<int64_t>(result.tensors_.size()), stop,
      [&](int64_t index, int) {
        Tensor& tensor = result.tensors_[static_cast<size_t>(index)];
        return checkpoint.ReadTensor(
            tensor.description->name,
            std::span(tensor.values.data(),
                      static_cast<size_t>(tensor.values.size())),
            StoppedBy(stop));
      }));
  return result;
}

absl::Status StageTensors::Write(size_t index, const StageVariant& variant,
                                 const WeightSources& sources, ThreadPool& pool,
                                 const std::stop_token& stop,
                                 float* out) const {
  const TensorDescription& description = *tensors_[index].description;
  const std::span<const float> from = values(index);
  if (variant[index]) {
    return RoundTensor(*variant[index], description, from, sources,
                       OnPool(pool, stop), StoppedBy(stop),
                       std::span(out, from.size()));
  }
  if (out != from.data()) {
    std::memcpy(out, from.data(), from.size_bytes());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StageTensors::Codes>> StageTensors::FindCodes(
    const StageVariant& variant, const WeightSources& sources, ThreadPool& pool,
    const std::stop_token& stop) const {
  std::vector<Codes> found(tensors_.size());
  QSWEEP_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<int64_t>(found.size()), stop,
      [&](int64_t i, int) -> absl::Status {
        const auto index = static_cast<size_t>(i);
        const TensorDescription& description = *tensors_[index].description;
        if (!variant[index] || !variant[index]->calibrated()) {
          return absl::OkStatus();
        }
        auto coded = sources.codes.Find(
            sources.codes.Key(*model_, description.name, *variant[index]));
        if (!coded.ok()) {
          return absl::UnavailableError(
              absl::StrCat("the codes of ", description.name,
                           " are gone: ", coded.status().message()));
        }
        QSWEEP_CHECK((*coded)->rows == Rows(description) &&
                     (*coded)->columns == Columns(description));
        found[index] = *std::move(coded);
        return absl::OkStatus();
      }));
  return found;
}

absl::Status StageTensors::MakeBlock(const StageVariant& variant,
                                     const ProductMode& mode,
                                     const WeightSources& sources,
                                     ThreadPool& pool,
                                     const std::stop_token& stop,
                                     BlockWeights& weights) const {
  QkvRows rows;
  for (const Tensor& tensor : tensors_) {
    const TensorDescription& description = *tensor.description;
    if (description.bias ||
        (PlaceOf(description.component, rows, weights).matrix == nullptr &&
         PlaceOf(description.component, rows, weights).gains == nullptr)) {
      return MakeError(kUnsupportedArchitecture,
                       absl::StrCat("A Llama block has no tensor '",
                                    description.name, "'."));
    }
    const int64_t outputs = Rows(description);
    rows.q += description.component == Component::kQ ? outputs : 0;
    rows.k += description.component == Component::kK ? outputs : 0;
    rows.v += description.component == Component::kV ? outputs : 0;
  }
  for (const Tensor& tensor : tensors_) {
    const TensorDescription& description = *tensor.description;
    const Place place = PlaceOf(description.component, rows, weights);
    if (place.gains != nullptr) {
      if (place.gains->size() != description.num_elements()) {
        *place.gains = kernels::FloatBuffer(description.num_elements());
      }
      continue;
    }
    const int64_t outputs = place.matrix == &weights.qkv
                                ? rows.q + rows.k + rows.v
                                : Rows(description);
    if (place.matrix->outputs() != outputs ||
        place.matrix->inputs() != Columns(description)) {
      *place.matrix = Matrix(outputs, Columns(description), mode);
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Codes> coded,
                          FindCodes(variant, sources, pool, stop));
  const auto place_of = [&](size_t index) {
    return PlaceOf(tensors_[index].description->component, rows, weights);
  };
  const auto out_of = [](const Place& place) {
    return place.gains != nullptr ? place.gains->data()
                                  : place.matrix->row(place.first_row);
  };
  // One quantized tensor after another, each on all threads; then what is left
  // to do of all, some rows at a time.
  struct Part {
    size_t tensor = 0;
    int64_t first = 0;  // row
    int64_t last = 0;
  };
  std::vector<Part> parts;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    if (variant[t] && coded[t] == nullptr) {
      QSWEEP_RETURN_IF_ERROR(
          Write(t, variant, sources, pool, stop, out_of(place_of(t))));
    }
    const int64_t all = Rows(*tensors_[t].description);
    for (int64_t first = 0; first < all; first += kPartRows) {
      parts.push_back({.tensor = t,
                       .first = first,
                       .last = std::min(all, first + kPartRows)});
    }
  }
  return pool.ParallelFor(
      static_cast<int64_t>(parts.size()), stop,
      [&](int64_t i, int) -> absl::Status {
        const Part& part = parts[static_cast<size_t>(i)];
        const int64_t columns = Columns(*tensors_[part.tensor].description);
        const Place place = place_of(part.tensor);
        const int64_t count = part.last - part.first;
        const std::span<float> out(out_of(place) + part.first * columns,
                                   static_cast<size_t>(count * columns));
        if (coded[part.tensor] != nullptr) {
          coded[part.tensor]->DecodeRows(part.first, part.last, out);
        } else if (!variant[part.tensor]) {
          std::ranges::copy(
              values(part.tensor)
                  .subspan(static_cast<size_t>(part.first * columns),
                           out.size()),
              out.begin());
        }
        if (place.matrix != nullptr) {
          place.matrix->RoundRows(place.first_row + part.first, count);
        }
        return absl::OkStatus();
      });
}

absl::StatusOr<kernels::FloatBuffer> StageTensors::Make(
    const StageVariant& variant, const WeightSources& sources, ThreadPool& pool,
    const std::stop_token& stop) const {
  QSWEEP_CHECK(tensors_.size() == 1);
  kernels::FloatBuffer result(tensors_[0].values.size());
  QSWEEP_RETURN_IF_ERROR(Write(0, variant, sources, pool, stop, result.data()));
  return result;
}

absl::StatusOr<kernels::FloatBuffer> StageTensors::Take(
    const StageVariant& variant, const WeightSources& sources, ThreadPool& pool,
    const std::stop_token& stop) && {
  QSWEEP_CHECK(tensors_.size() == 1);
  QSWEEP_RETURN_IF_ERROR(
      Write(0, variant, sources, pool, stop, tensors_[0].values.data()));
  return std::move(tensors_[0].values);
}

}  // namespace qsweep
