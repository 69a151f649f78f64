#include "worker/engine/weights.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

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
                      static_cast<size_t>(tensor.values.size())));
      }));
  return result;
}

absl::StatusOr<const float*> StageTensors::Values(
    size_t index, const StageVariant& variant, const CodeCache* codes,
    kernels::FloatBuffer& scratch) const {
  const Tensor& tensor = tensors_[index];
  if (!variant[index]) {
    return tensor.values.data();
  }
  scratch = kernels::FloatBuffer(tensor.values.size());
  const auto size = static_cast<size_t>(tensor.values.size());
  if (variant[index]->calibrated()) {
    QSWEEP_CHECK(codes != nullptr);  // of blocks only
    auto coded = codes->Find(
        codes->Key(*model_, tensor.description->name, *variant[index]));
    if (!coded.ok()) {
      return absl::UnavailableError(
          absl::StrCat("the codes of ", tensor.description->name,
                       " are gone: ", coded.status().message()));
    }
    QSWEEP_CHECK((*coded)->rows == Rows(*tensor.description) &&
                 (*coded)->columns == Columns(*tensor.description));
    (*coded)->Decode(std::span(scratch.data(), size));
    return scratch.data();
  }
  QSWEEP_RETURN_IF_ERROR(kernels::FakeQuantize(
      *variant[index], std::span(tensor.values.data(), size),
      Rows(*tensor.description), Columns(*tensor.description),
      std::span(scratch.data(), size)));
  return scratch.data();
}

absl::StatusOr<BlockWeights> StageTensors::MakeBlock(
    const StageVariant& variant, const CodeCache& codes, ThreadPool& pool,
    const std::stop_token& stop) const {
  QkvRows rows;
  BlockWeights weights;
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
      *place.gains = kernels::FloatBuffer(description.num_elements());
    } else if (place.matrix->outputs() == 0) {
      *place.matrix =
          Matrix(place.matrix == &weights.qkv ? rows.q + rows.k + rows.v
                                              : Rows(description),
                 Columns(description));
    }
  }
  QSWEEP_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<int64_t>(tensors_.size()), stop,
      [&](int64_t i, int) -> absl::Status {
        const auto index = static_cast<size_t>(i);
        const TensorDescription& description = *tensors_[index].description;
        const Place place = PlaceOf(description.component, rows, weights);
        kernels::FloatBuffer scratch;
        QSWEEP_ASSIGN_OR_RETURN(const float* const values,
                                Values(index, variant, &codes, scratch));
        if (place.gains != nullptr) {
          std::memcpy(place.gains->data(), values,
                      static_cast<size_t>(place.gains->size()) * sizeof(float));
        } else {
          std::memcpy(
              place.matrix->row(place.first_row), values,
              static_cast<size_t>(description.num_elements()) * sizeof(float));
        }
        return absl::OkStatus();
      }));
  return weights;
}

absl::StatusOr<Matrix> StageTensors::MakeMatrix(
    const StageVariant& variant) const {
  QSWEEP_CHECK(tensors_.size() == 1);
  kernels::FloatBuffer scratch;
  QSWEEP_ASSIGN_OR_RETURN(const float* const values,
                          Values(0, variant, nullptr, scratch));
  const TensorDescription& description = *tensors_[0].description;
  Matrix matrix(Rows(description), Columns(description));
  std::memcpy(matrix.row(0), values,
              static_cast<size_t>(description.num_elements()) * sizeof(float));
  return matrix;
}

absl::StatusOr<kernels::FloatBuffer> StageTensors::MakePlain(
    const StageVariant& variant) const {
  QSWEEP_CHECK(tensors_.size() == 1);
  kernels::FloatBuffer result;
  QSWEEP_ASSIGN_OR_RETURN(const float* const values,
                          Values(0, variant, nullptr, result));
  if (result.data() == nullptr) {
    result = kernels::FloatBuffer(tensors_[0].values.size());
    std::memcpy(result.data(), values,
                static_cast<size_t>(result.size()) * sizeof(float));
  }
  return result;
}

}  // namespace qsweep
