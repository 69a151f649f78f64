#include "worker/engine/cuda_stages.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/host_cpus.h"
#include "common/base/status_macros.h"
#include "worker/engine/cuda_products.h"

namespace qsweep {
namespace {

using kernels::FloatType;

constexpr int64_t kStagingBytes = int64_t{16} << 20;
constexpr int64_t kCopyBytes = int64_t{2} << 20;  // of one copier at a time
constexpr int kMaxHostThreads = 8;

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

}  // namespace

int NumHostThreads() { return std::min(AvailableHostCpus(), kMaxHostThreads); }

StageLoader::StageLoader(const Checkpoint& checkpoint,
                         const ModelDescription& model, std::stop_token stop)
    : checkpoint_(checkpoint),
      model_(model),
      stop_(std::move(stop)),
      copiers_(NumHostThreads()) {}

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
  QSWEEP_RETURN_IF_ERROR(
      checkpoint_.ReadTensor(name, widened, StoppedBy(stop_)));
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

}  // namespace qsweep
