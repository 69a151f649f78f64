#include "worker/engine/cuda_weights.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/quantize_cuda.h"

namespace qsweep {
namespace {

using kernels::FloatType;

constexpr int64_t kStagingBytes = int64_t{16} << 20;
constexpr int64_t kCopyBytes = int64_t{2} << 20;  // of one copier at a time
constexpr int kMaxCopiers = 8;
constexpr int64_t kDecodedRows = 64;  // of codes, by one thread at a time
constexpr int64_t kAlignment = 512;   // of a tensor in a block's memory

int64_t Rows(const TensorDescription& tensor) {
  return tensor.shape.size() < 2 ? 1 : tensor.shape[0];
}

int64_t Columns(const TensorDescription& tensor) {
  return tensor.num_elements() / Rows(tensor);
}

std::optional<FloatType> FloatTypeOf(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return FloatType::kFp32;
    case TensorType::kF16:
      return FloatType::kFp16;
    case TensorType::kBf16:
      return FloatType::kBf16;
    default:
      return std::nullopt;
  }
}

int NumCopiers() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                    kMaxCopiers);
}

}  // namespace

StageLoader::StageLoader(const Checkpoint& checkpoint,
                         const ModelDescription& model, std::stop_token stop)
    : checkpoint_(checkpoint),
      model_(model),
      stop_(std::move(stop)),
      copiers_(NumCopiers()) {}

StageLoader::~StageLoader() {
  if (prefetched_.valid()) {
    prefetched_.wait();
  }
}

void StageLoader::Prefetch(const Stage& stage) {
  if (prefetched_.valid() || waiting_) {
    return;
  }
  prefetching_ = &stage;
  try {
    prefetched_ =
        std::async(std::launch::async, [this, &stage] { return Load(stage); });
  } catch (const std::system_error&) {
    // No thread to be had: Take loads it.
  }
}

absl::StatusOr<DeviceStage> StageLoader::Take(const Stage& stage) {
  QSWEEP_ASSIGN_OR_RETURN(DeviceStage loaded, TakeOrLoad(stage));
  for (const DeviceStage::Tensor& tensor : loaded.tensors) {
    QSWEEP_ASSIGN_OR_RETURN(
        const bool finite,
        AllFiniteOnDevice(tensor.values.data(), tensor.type,
                          tensor.description->num_elements()));
    if (!finite) {
      return MakeError(kNonFiniteWeights,
                       absl::StrCat("Tensor '", tensor.description->name,
                                    "' holds a value that is not finite."));
    }
  }
  return loaded;
}

absl::StatusOr<DeviceStage> StageLoader::TakeOrLoad(const Stage& stage) {
  if (prefetched_.valid()) {
    absl::StatusOr<DeviceStage> loaded = prefetched_.get();
    if (loaded.ok()) {
      waiting_ = *std::move(loaded);
    } else if (prefetching_ == &stage &&
               !absl::IsResourceExhausted(loaded.status())) {
      return loaded.status();
    }  // What was in the way then may have been freed.
  }
  if (waiting_ && prefetching_ == &stage) {
    DeviceStage taken = *std::move(waiting_);
    waiting_.reset();
    return taken;
  }
  return Load(stage);
}

absl::StatusOr<DeviceStage> StageLoader::Load(const Stage& stage) {
  for (StagingBuffer& buffer : staging_) {
    if (buffer.size() == 0) {
      QSWEEP_ASSIGN_OR_RETURN(buffer, StagingBuffer::Allocate(kStagingBytes));
    }
  }
  DeviceStage loaded;
  for (const int index : stage.tensors) {
    DeviceStage::Tensor tensor = {
        .description = &model_.tensors[static_cast<size_t>(index)]};
    QSWEEP_RETURN_IF_ERROR(LoadTensor(tensor));
    loaded.tensors.push_back(std::move(tensor));
  }
  QSWEEP_RETURN_IF_ERROR(Synchronize(UploadStream()));
  return loaded;
}

absl::Status StageLoader::LoadTensor(DeviceStage::Tensor& tensor) {
  const std::string& name = tensor.description->name;
  const std::optional<StoredTensor> stored = checkpoint_.FindPlain(name);
  const std::optional<FloatType> type =
      stored ? FloatTypeOf(stored->type) : std::nullopt;
  if (type) {
    tensor.type = *type;
    const auto bytes = static_cast<int64_t>(stored->data.size());
    QSWEEP_ASSIGN_OR_RETURN(tensor.values,
                            DeviceBuffer::AllocateForUpload(bytes));
    return Upload(reinterpret_cast<const char*>(stored->data.data()), bytes,
                  static_cast<char*>(tensor.values.data()));
  }
  std::vector<float> widened(
      static_cast<size_t>(tensor.description->num_elements()));
  QSWEEP_RETURN_IF_ERROR(checkpoint_.ReadTensor(name, widened));
  const auto bytes = static_cast<int64_t>(widened.size() * sizeof(float));
  QSWEEP_ASSIGN_OR_RETURN(tensor.values,
                          DeviceBuffer::AllocateForUpload(bytes));
  return Upload(reinterpret_cast<const char*>(widened.data()), bytes,
                static_cast<char*>(tensor.values.data()));
}

// A piece is copied into one buffer while uploads from the others run.
absl::Status StageLoader::Upload(const char* from, int64_t bytes, char* to) {
  for (int64_t at = 0; at < bytes; at += kStagingBytes) {
    const int64_t piece = std::min(kStagingBytes, bytes - at);
    StagingBuffer& staging = staging_[next_staging_];
    next_staging_ = (next_staging_ + 1) % staging_.size();
    QSWEEP_ASSIGN_OR_RETURN(char* const buffer, staging.WaitUntilFree());
    QSWEEP_RETURN_IF_ERROR(copiers_.ParallelFor(
        (piece + kCopyBytes - 1) / kCopyBytes, stop_,
        [&](int64_t item, int) -> absl::Status {
          const int64_t begin = item * kCopyBytes;
          std::memcpy(buffer + begin, from + at + begin,
                      static_cast<size_t>(std::min(kCopyBytes, piece - begin)));
          return absl::OkStatus();
        }));
    QSWEEP_RETURN_IF_ERROR(staging.StartUpload(to + at, piece));
  }
  return absl::OkStatus();
}

namespace {

// Where a tensor of a block goes.
struct Place {
  DeviceMatrix* matrix = nullptr;
  const float** gains = nullptr;
  int part = 0;  // of qkv: 0, 1, 2
};

Place PlaceOf(Component component, DeviceBlock& block) {
  switch (component) {
    case Component::kQ:
      return {.matrix = &block.qkv};
    case Component::kK:
      return {.matrix = &block.qkv, .part = 1};
    case Component::kV:
      return {.matrix = &block.qkv, .part = 2};
    case Component::kO:
      return {.matrix = &block.o};
    case Component::kGate:
      return {.matrix = &block.gate};
    case Component::kUp:
      return {.matrix = &block.up};
    case Component::kDown:
      return {.matrix = &block.down};
    case Component::kNorm1:
      return {.gains = &block.norm1};
    case Component::kNorm2:
      return {.gains = &block.norm2};
    default:
      return {};
  }
}

}  // namespace

WeightMaker::WeightMaker(const ModelDescription& model, const CodeCache& codes,
                         std::stop_token stop)
    : model_(model),
      codes_(codes),
      stop_(std::move(stop)),
      decoders_(NumCopiers()) {}

absl::Status WeightMaker::MakeBlock(const DeviceStage& stage,
                                    const StageVariant& variant, FloatType type,
                                    DeviceBlock& block) {
  // Places first: matrices one after the other, the parts of qkv as one.
  block.qkv = block.o = block.gate = block.up = block.down = DeviceMatrix();
  std::array<int64_t, 3> qkv_rows = {};
  for (const DeviceStage::Tensor& tensor : stage.tensors) {
    const TensorDescription& description = *tensor.description;
    const Place place = PlaceOf(description.component, block);
    if (description.bias ||
        (place.matrix == nullptr && place.gains == nullptr)) {
      return MakeError(kUnsupportedArchitecture,
                       absl::StrCat("A Llama block has no tensor '",
                                    description.name, "'."));
    }
    if (place.matrix != nullptr) {
      place.matrix->type = type;
      place.matrix->outputs += Rows(description);
      place.matrix->inputs = Columns(description);
    }
    if (place.matrix == &block.qkv) {
      qkv_rows[static_cast<size_t>(place.part)] = Rows(description);
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

  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Codes> codes,
                          FindCodes(stage, variant));
  for (size_t i = 0; i < stage.tensors.size(); ++i) {
    const DeviceStage::Tensor& tensor = stage.tensors[i];
    const Place place = PlaceOf(tensor.description->component, block);
    if (place.gains != nullptr) {
      QSWEEP_RETURN_IF_ERROR(Make(tensor, variant[i], codes[i],
                                  FloatType::kFp32,
                                  const_cast<float*>(*place.gains)));
      continue;
    }
    int64_t first = 0;
    for (int part = 0; part < place.part; ++part) {
      first += qkv_rows[static_cast<size_t>(part)];
    }
    QSWEEP_RETURN_IF_ERROR(
        Make(tensor, variant[i], codes[i], type,
             const_cast<void*>(
                 place.matrix->Rows(first, Rows(*tensor.description)).values)));
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
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Codes> codes,
                          FindCodes(stage, variant));
  QSWEEP_RETURN_IF_ERROR(
      Make(stage.tensors[0], variant[0], codes[0], type, made.memory.data()));
  made.matrix = {.values = made.memory.data(),
                 .type = type,
                 .outputs = Rows(description),
                 .inputs = Columns(description)};
  return made;
}

void WeightMaker::Release() {
  workspace_ = DeviceBuffer();
  values_ = DeviceBuffer();
}

absl::Status WeightMaker::Make(const DeviceStage::Tensor& tensor,
                               const std::optional<Scheme>& scheme,
                               const Codes& codes, FloatType type, void* out) {
  const TensorDescription& description = *tensor.description;
  const int64_t count = description.num_elements();
  if (stop_.stop_requested()) {
    return absl::CancelledError("The run was cancelled.");
  }
  if (!scheme) {
    return ConvertOnDevice(tensor.values.data(), tensor.type, count, out, type);
  }
  if (codes != nullptr) {
    QSWEEP_CHECK(codes->rows * codes->columns == count);
    return Decode(*codes, type, out);
  }
  QSWEEP_RETURN_IF_ERROR(workspace_.Reserve(kernels::QuantizeWorkspaceBytes(
      *scheme, Rows(description), Columns(description))));
  // A kernel writes the type it reads, or fp32.
  const bool direct = type == tensor.type || type == FloatType::kFp32;
  if (!direct) {
    QSWEEP_RETURN_IF_ERROR(values_.Reserve(count * BytesOf(FloatType::kFp32)));
  }
  QSWEEP_RETURN_IF_ERROR(kernels::FakeQuantizeCuda(
      *scheme, Rows(description), Columns(description),
      {.weights = tensor.values.data(),
       .weight_type = tensor.type,
       .out = direct ? out : values_.data(),
       .out_type = direct ? type : FloatType::kFp32,
       .workspace = workspace_.data()},
      ComputeStream()));
  QSWEEP_RETURN_IF_ERROR(CheckHalf(tensor, *scheme,
                                   direct ? out : values_.data(),
                                   direct ? type : FloatType::kFp32));
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
  return kernels::FakeQuantize(scheme, weights, Rows(description),
                               Columns(description), weights);
}

// What the host made under a calibrated scheme; it decodes, too.
absl::Status WeightMaker::Decode(const kernels::CodedTensor& codes,
                                 FloatType type, void* out) {
  const int64_t count = codes.rows * codes.columns;
  std::vector<float> values(static_cast<size_t>(count));
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
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
  QSWEEP_RETURN_IF_ERROR(values_.Reserve(bytes));
  QSWEEP_RETURN_IF_ERROR(CopyToDevice(values_.data(), values.data(), bytes));
  return ConvertOnDevice(values_.data(), FloatType::kFp32, count, out, type);
}

absl::StatusOr<std::vector<WeightMaker::Codes>> WeightMaker::FindCodes(
    const DeviceStage& stage, const StageVariant& variant) {
  std::vector<Codes> found(stage.tensors.size());
  QSWEEP_RETURN_IF_ERROR(decoders_.ParallelFor(
      static_cast<int64_t>(found.size()), stop_,
      [&](int64_t item, int) -> absl::Status {
        const auto i = static_cast<size_t>(item);
        if (!variant[i] || !variant[i]->calibrated()) {
          return absl::OkStatus();
        }
        const std::string& name = stage.tensors[i].description->name;
        auto coded = codes_.Find(codes_.Key(model_, name, *variant[i]));
        if (!coded.ok()) {
          return absl::UnavailableError(absl::StrCat(
              "the codes of ", name, " are gone: ", coded.status().message()));
        }
        found[i] = *std::move(coded);
        return absl::OkStatus();
      }));
  return found;
}

}  // namespace qsweep
