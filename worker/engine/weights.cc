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
#include "common/base/status_macros.h"
#include "worker/engine/block_places.h"

namespace qsweep {
namespace {

constexpr int64_t kPartRows = 64;  // of a tensor, by one thread at a time

}  // namespace

absl::StatusOr<StageTensors> StageTensors::Read(const Checkpoint& checkpoint,
                                                const ModelDescription& model,
                                                const Stage& stage,
                                                ThreadPool& pool,
                                                const std::stop_token& stop) {
  StageTensors result;
  QSWEEP_RETURN_IF_ERROR(result.Replace(checkpoint, model, stage, pool, stop));
  return result;
}

absl::Status StageTensors::Replace(const Checkpoint& checkpoint,
                                   const ModelDescription& model,
                                   const Stage& stage, ThreadPool& pool,
                                   const std::stop_token& stop) {
  model_ = &model;
  tensors_.resize(stage.tensors.size());
  for (size_t t = 0; t < tensors_.size(); ++t) {
    Tensor& tensor = tensors_[t];
    tensor.description = &model.tensors[static_cast<size_t>(stage.tensors[t])];
    if (tensor.values.size() != tensor.description->num_elements()) {
      tensor.values = kernels::FloatBuffer(tensor.description->num_elements());
    }
  }
  return pool.ParallelFor(
      static_cast<int64_t>(tensors_.size()), stop, [&](int64_t index, int) {
        Tensor& tensor = tensors_[static_cast<size_t>(index)];
        return checkpoint.ReadTensor(
            tensor.description->name,
            std::span(tensor.values.data(),
                      static_cast<size_t>(tensor.values.size())),
            StoppedBy(stop));
      });
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
        QSWEEP_CHECK((*coded)->rows == RowsOf(description) &&
                     (*coded)->columns == ColumnsOf(description));
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
  QkvRows rows = {};
  std::vector<BlockPlace<BlockWeights>> places(tensors_.size());
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const TensorDescription& description = *tensors_[t].description;
    QSWEEP_ASSIGN_OR_RETURN(places[t], PlaceOf(description, weights));
    if (places[t].matrix == &weights.qkv) {
      rows[places[t].part] = RowsOf(description);
    }
  }
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const TensorDescription& description = *tensors_[t].description;
    const BlockPlace<BlockWeights>& place = places[t];
    if (place.gains != nullptr) {
      if (place.gains->size() != description.num_elements()) {
        *place.gains = kernels::FloatBuffer(description.num_elements());
      }
      continue;
    }
    const int64_t outputs = place.matrix == &weights.qkv
                                ? FirstRowOf(rows.size(), rows)
                                : RowsOf(description);
    if (place.matrix->outputs() != outputs ||
        place.matrix->inputs() != ColumnsOf(description)) {
      *place.matrix = Matrix(outputs, ColumnsOf(description), mode);
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Codes> coded,
                          FindCodes(variant, sources, pool, stop));
  const auto first_row_of = [&](size_t index) {
    return FirstRowOf(places[index].part, rows);
  };
  const auto out_of = [&](size_t index) {
    return places[index].gains != nullptr
               ? places[index].gains->data()
               : places[index].matrix->row(first_row_of(index));
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
      QSWEEP_RETURN_IF_ERROR(Write(t, variant, sources, pool, stop, out_of(t)));
    }
    const int64_t all = RowsOf(*tensors_[t].description);
    for (int64_t first = 0; first < all; first += kPartRows) {
      parts.push_back({.tensor = t,
                       .first = first,
                       .last = std::min(all, first + kPartRows)});
    }
  }
  QSWEEP_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<int64_t>(parts.size()), stop,
      [&](int64_t i, int) -> absl::Status {
        const Part& part = parts[static_cast<size_t>(i)];
        const int64_t columns = ColumnsOf(*tensors_[part.tensor].description);
        const int64_t count = part.last - part.first;
        const std::span<float> out(out_of(part.tensor) + part.first * columns,
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
        if (Matrix* const matrix = places[part.tensor].matrix;
            matrix != nullptr) {
          matrix->RoundRows(first_row_of(part.tensor) + part.first, count);
        }
        return absl::OkStatus();
      }));
  Matrix* const matrices[] = {&weights.qkv, &weights.o, &weights.gate,
                              &weights.up, &weights.down};
  return PreparePanels(matrices, pool, stop);
}

absl::Status PreparePanels(std::span<Matrix* const> matrices, ThreadPool& pool,
                           const std::stop_token& stop) {
  std::vector<std::pair<Matrix*, size_t>> panels;
  for (Matrix* const matrix : matrices) {
    for (size_t p = 0; p < matrix->panels().size(); ++p) {
      panels.emplace_back(matrix, p);
    }
  }
  return pool.ParallelFor(
      static_cast<int64_t>(panels.size()), stop, [&](int64_t i, int) {
        const auto [matrix, panel] = panels[static_cast<size_t>(i)];
        matrix->PreparePanel(panel);
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
