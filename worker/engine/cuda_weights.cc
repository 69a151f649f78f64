#include "worker/engine/cuda_weights.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/engine/block_places.h"
#include "worker/kernels/kept_weights_cuda.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/quantize_cuda.h"

namespace qsweep {
namespace {

using kernels::FloatType;

constexpr int64_t kDecodedRows = 64;  // of codes, by one thread at a time
constexpr int64_t kAlignment = 512;   // of a tensor in a block's memory

}  // namespace

WeightMaker::WeightMaker(const ModelDescription& model,
                         const WeightSources& sources, std::stop_token stop)
    : model_(model),
      sources_(sources),
      stop_(std::move(stop)),
      decoders_(NumHostThreads()) {}

absl::Status WeightMaker::MakeBlock(const DeviceStage& stage,
                                    const StageVariant& variant, FloatType type,
                                    DeviceBlock& block) {
  // Places first: matrices one after the other, the parts of qkv as one.
  block.qkv = block.o = block.gate = block.up = block.down = DeviceMatrix();
  QkvRows qkv_rows = {};
  std::vector<BlockPlace<DeviceBlock>> places(stage.tensors.size());
  for (size_t i = 0; i < places.size(); ++i) {
    const TensorDescription& description = *stage.tensors[i].description;
    QSWEEP_ASSIGN_OR_RETURN(places[i], PlaceOf(description, block));
    const BlockPlace<DeviceBlock>& place = places[i];
    if (place.matrix != nullptr) {
      place.matrix->type = type;
      place.matrix->outputs += RowsOf(description);
      place.matrix->inputs = ColumnsOf(description);
    }
    if (place.matrix == &block.qkv) {
      qkv_rows[place.part] = RowsOf(description);
    }
  }
  int64_t bytes = 0;
  std::vector<int64_t> offsets;
  for (const DeviceMatrix* matrix :
       {&block.qkv, &block.o, &block.gate, &block.up, &block.down}) {
    offsets.push_back(bytes);
    bytes +=
        (matrix->outputs * matrix->inputs * BytesOf(type) + kAlignment - 1) /
        kAlignment * kAlignment;
  }
  const int64_t norms = bytes;
  const int64_t norm_bytes =
      (block.qkv.inputs * BytesOf(FloatType::kFp32) + kAlignment - 1) /
      kAlignment * kAlignment;
  QSWEEP_RETURN_IF_ERROR(block.memory.Reserve(bytes + 2 * norm_bytes));
  char* const base = static_cast<char*>(block.memory.data());
  size_t next = 0;
  for (DeviceMatrix* matrix :
       {&block.qkv, &block.o, &block.gate, &block.up, &block.down}) {
    matrix->values = base + offsets[next++];
  }
  block.norm1 = reinterpret_cast<const float*>(base + norms);
  block.norm2 = reinterpret_cast<const float*>(base + norms + norm_bytes);

  QSWEEP_ASSIGN_OR_RETURN(const std::vector<FromHost> host,
                          FindOnHost(stage, variant));
  for (size_t i = 0; i < stage.tensors.size(); ++i) {
    const DeviceStage::Tensor& tensor = stage.tensors[i];
    const BlockPlace<DeviceBlock>& place = places[i];
    if (place.gains != nullptr) {
      QSWEEP_RETURN_IF_ERROR(Make(tensor, variant[i], host[i], FloatType::kFp32,
                                  const_cast<float*>(*place.gains)));
      continue;
    }
    const int64_t first = FirstRowOf(place.part, qkv_rows);
    QSWEEP_RETURN_IF_ERROR(Make(
        tensor, variant[i], host[i], type,
        const_cast<void*>(
            place.matrix->Rows(first, RowsOf(*tensor.description)).values)));
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceTensor> WeightMaker::MakeTensor(
    const DeviceStage& stage, const StageVariant& variant, FloatType type) {
  QSWEEP_CHECK(stage.tensors.size() == 1);
  const TensorDescription& description = *stage.tensors[0].description;
  DeviceTensor made;
  QSWEEP_ASSIGN_OR_RETURN(
      made.memory,
      DeviceBuffer::Allocate(description.num_elements() * BytesOf(type)));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<FromHost> host,
                          FindOnHost(stage, variant));
  QSWEEP_RETURN_IF_ERROR(
      Make(stage.tensors[0], variant[0], host[0], type, made.memory.data()));
  made.matrix = {.values = made.memory.data(),
                 .type = type,
                 .outputs = RowsOf(description),
                 .inputs = ColumnsOf(description)};
  return made;
}

void WeightMaker::Release() {
  workspace_ = DeviceBuffer();
  values_ = DeviceBuffer();
}

absl::Status WeightMaker::Make(const DeviceStage::Tensor& tensor,
                               const std::optional<Scheme>& scheme,
                               const FromHost& host, FloatType type,
                               void* out) {
  const TensorDescription& description = *tensor.description;
  const int64_t count = description.num_elements();
  if (stop_.stop_requested()) {
    return absl::CancelledError("The run was cancelled.");
  }
  if (!scheme) {
    return ConvertOnDevice(tensor.values.data(), tensor.type, count, out, type);
  }
  if (host.codes != nullptr) {
    QSWEEP_CHECK(host.codes->rows * host.codes->columns == count);
    QSWEEP_ASSIGN_OR_RETURN(const std::vector<float> values,
                            Decode(*host.codes));
    QSWEEP_RETURN_IF_ERROR(Upload(values));
    return ConvertOnDevice(values_.data(), FloatType::kFp32, count, out, type);
  }
  const bool uploaded = scheme->method == Method::kCheckpoint;
  // A kernel writes the type it reads, or fp32.
  const bool direct =
      !uploaded && (type == tensor.type || type == FloatType::kFp32);
  if (uploaded) {
    QSWEEP_RETURN_IF_ERROR(Upload(host.values));
  } else {
    QSWEEP_RETURN_IF_ERROR(workspace_.Reserve(kernels::QuantizeWorkspaceBytes(
        *scheme, RowsOf(description), ColumnsOf(description))));
    if (!direct) {
      QSWEEP_RETURN_IF_ERROR(
          values_.Reserve(count * BytesOf(FloatType::kFp32)));
    }
  }
  void* const rounded = direct ? out : values_.data();
  const FloatType rounded_type = direct ? type : FloatType::kFp32;
  if (!uploaded) {
    QSWEEP_RETURN_IF_ERROR(kernels::FakeQuantizeCuda(
        *scheme, RowsOf(description), ColumnsOf(description),
        {.weights = tensor.values.data(),
         .weight_type = tensor.type,
         .out = rounded,
         .out_type = rounded_type,
         .workspace = workspace_.data()},
        ComputeStream()));
    QSWEEP_RETURN_IF_ERROR(CheckHalf(tensor, *scheme, rounded, rounded_type));
  }
  if (scheme->kept_millionths != 0) {
    QSWEEP_RETURN_IF_ERROR(KernelStatus(kernels::KeepWeightsCuda(
        {.weights = tensor.values.data(),
         .out = rounded,
         .weight_type = tensor.type,
         .out_type = rounded_type},
        count, sources_.largest.ThresholdOf(*scheme), ComputeStream())));
  }
  return direct ? absl::OkStatus()
                : ConvertOnDevice(values_.data(), FloatType::kFp32, count, out,
                                  type);
}

// Values that are not finite, from weights that are: the CPU says why.
absl::Status WeightMaker::CheckHalf(const DeviceStage::Tensor& tensor,
                                    const Scheme& scheme, const void* values,
                                    FloatType type) {
  if (scheme.method != Method::kRtn ||
      (scheme.scale != ScaleStorage::kFp16 &&
       scheme.arithmetic != Arithmetic::kFp16)) {
    return absl::OkStatus();
  }
  const TensorDescription& description = *tensor.description;
  const int64_t count = description.num_elements();
  QSWEEP_ASSIGN_OR_RETURN(const bool finite,
                          AllFiniteOnDevice(values, type, count));
  if (finite) {
    return absl::OkStatus();
  }
  const int64_t bytes = count * BytesOf(FloatType::kFp32);
  QSWEEP_ASSIGN_OR_RETURN(const DeviceBuffer wide,
                          DeviceBuffer::Allocate(bytes));
  QSWEEP_RETURN_IF_ERROR(ConvertOnDevice(tensor.values.data(), tensor.type,
                                         count, wide.data(), FloatType::kFp32));
  std::vector<float> weights(static_cast<size_t>(count));
  QSWEEP_RETURN_IF_ERROR(CopyFromDevice(weights.data(), wide.data(), bytes));
  return kernels::FakeQuantize(scheme, weights, RowsOf(description),
                               ColumnsOf(description), weights);
}

// What the host made under a calibrated scheme; it decodes, too.
absl::StatusOr<std::vector<float>> WeightMaker::Decode(
    const kernels::CodedTensor& codes) {
  std::vector<float> values(static_cast<size_t>(codes.rows * codes.columns));
  QSWEEP_RETURN_IF_ERROR(decoders_.ParallelFor(
      (codes.rows + kDecodedRows - 1) / kDecodedRows, stop_,
      [&](int64_t item, int) -> absl::Status {
        const int64_t first = item * kDecodedRows;
        const int64_t last = std::min(first + kDecodedRows, codes.rows);
        codes.DecodeRows(
            first, last,
            std::span(values).subspan(
                static_cast<size_t>(first * codes.columns),
                static_cast<size_t>((last - first) * codes.columns)));
        return absl::OkStatus();
      }));
  return values;
}

absl::Status WeightMaker::Upload(std::span<const float> values) {
  const auto bytes = static_cast<int64_t>(values.size_bytes());
  QSWEEP_RETURN_IF_ERROR(values_.Reserve(bytes));
  return CopyToDevice(values_.data(), values.data(), bytes);
}

absl::StatusOr<std::vector<WeightMaker::FromHost>> WeightMaker::FindOnHost(
    const DeviceStage& stage, const StageVariant& variant) {
  std::vector<FromHost> found(stage.tensors.size());
  QSWEEP_RETURN_IF_ERROR(decoders_.ParallelFor(
      static_cast<int64_t>(found.size()), stop_,
      [&](int64_t item, int) -> absl::Status {
        const auto i = static_cast<size_t>(item);
        const TensorDescription& description = *stage.tensors[i].description;
        if (variant[i] && variant[i]->method == Method::kCheckpoint) {
          found[i].values.resize(
              static_cast<size_t>(description.num_elements()));
          return sources_.checkpoints.Of(*variant[i])
              .ReadTensor(description.name, found[i].values, StoppedBy(stop_));
        }
        if (!variant[i] || !variant[i]->calibrated()) {
          return absl::OkStatus();
        }
        auto coded = sources_.codes.Find(
            sources_.codes.Key(model_, description.name, *variant[i]));
        if (!coded.ok()) {
          return absl::UnavailableError(
              absl::StrCat("the codes of ", description.name,
                           " are gone: ", coded.status().message()));
        }
        found[i].codes = *std::move(coded);
        return absl::OkStatus();
      }));
  return found;
}

}  // namespace qsweep
