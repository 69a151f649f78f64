#include "worker/engine/cuda_memory.h"

#include <algorithm>
#include <cuda_runtime_api.h>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

// Compute capabilities below 7.5 have no code in the kernels.
constexpr int kLeastCapability = 75;

absl::Status StatusOf(cudaError_t error, const char* call) {
  if (error == cudaSuccess) {
    return absl::OkStatus();
  }
  cudaGetLastError();  // so that no later launch reports it again
  return MakeError(kDeviceFailed,
                   absl::StrCat(call, ": ", cudaGetErrorString(error), "."));
}

}  // namespace

absl::StatusOr<DeviceBuffer> DeviceBuffer::Allocate(int64_t bytes) {
  return AllocateOn(ComputeStream(), bytes);
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::AllocateForUpload(int64_t bytes) {
  return AllocateOn(UploadStream(), bytes);
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::AllocateOn(kernels::Stream stream,
                                                      int64_t bytes) {
  DeviceBuffer buffer;
  if (bytes == 0) {
    return buffer;
  }
  try {
    buffer.data_ =
        allocator::raw_alloc_with_stream(static_cast<size_t>(bytes), stream);
  } catch (const c10::OutOfMemoryError&) {
    return MakeError(
        kOutOfMemory,
        absl::StrCat("The GPU has no room for ", bytes >> 20, " MiB more."),
        "--memory", "Free the GPU, or give the engine less of it.");
  } catch (const std::exception& error) {
    return MakeError(kDeviceFailed,
                     absl::StrCat("An allocation failed: ", error.what()));
  }
  buffer.size_ = bytes;
  return buffer;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::OfBytes(const void* values,
                                                   int64_t bytes) {
  QSWEEP_ASSIGN_OR_RETURN(DeviceBuffer buffer, Allocate(bytes));
  QSWEEP_RETURN_IF_ERROR(CopyToDevice(buffer.data(), values, bytes));
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) {
    allocator::raw_delete(data_);
  }
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::Status DeviceBuffer::Reserve(int64_t bytes) {
  if (bytes <= size_) {
    return absl::OkStatus();
  }
  *this = DeviceBuffer();  // before the larger one is asked for
  QSWEEP_ASSIGN_OR_RETURN(*this, Allocate(bytes));
  return absl::OkStatus();
}

absl::StatusOr<PinnedBuffer> PinnedBuffer::Allocate(int64_t bytes) {
  PinnedBuffer buffer;
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMallocHost(&buffer.data_, static_cast<size_t>(bytes)),
               "cudaMallocHost"));
  buffer.size_ = bytes;
  return buffer;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) {
    cudaFreeHost(data_);
  }
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

kernels::Stream ComputeStream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

kernels::Stream UploadStream() {
  static const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  return stream.stream();
}

absl::Status CopyToDevice(void* to, const void* from, int64_t bytes) {
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                               cudaMemcpyHostToDevice, ComputeStream()),
               "a copy to the GPU"));
  return Synchronize(ComputeStream());
}

absl::Status CopyFromDevice(void* to, const void* from, int64_t bytes) {
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                               cudaMemcpyDeviceToHost, ComputeStream()),
               "a copy from the GPU"));
  return Synchronize(ComputeStream());
}

absl::Status Synchronize(kernels::Stream stream) {
  return StatusOf(cudaStreamSynchronize(stream), "the GPU");
}

absl::StatusOr<StagingBuffer> StagingBuffer::Allocate(int64_t bytes) {
  StagingBuffer buffer;
  QSWEEP_ASSIGN_OR_RETURN(buffer.memory_, PinnedBuffer::Allocate(bytes));
  QSWEEP_RETURN_IF_ERROR(StatusOf(
      cudaEventCreateWithFlags(&buffer.uploaded_, cudaEventDisableTiming),
      "cudaEventCreate"));
  return buffer;
}

StagingBuffer::~StagingBuffer() {
  if (uploaded_ != nullptr) {
    cudaEventDestroy(uploaded_);
  }
}

StagingBuffer::StagingBuffer(StagingBuffer&& other) noexcept
    : memory_(std::move(other.memory_)),
      uploaded_(std::exchange(other.uploaded_, nullptr)) {}

StagingBuffer& StagingBuffer::operator=(StagingBuffer&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(uploaded_, other.uploaded_);
  return *this;
}

absl::StatusOr<char*> StagingBuffer::WaitUntilFree() {
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaEventSynchronize(uploaded_), "an upload to the GPU"));
  return static_cast<char*>(memory_.data());
}

absl::Status StagingBuffer::StartUpload(void* to, int64_t bytes) {
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(to, memory_.data(), static_cast<size_t>(bytes),
                               cudaMemcpyHostToDevice, UploadStream()),
               "an upload to the GPU"));
  return StatusOf(cudaEventRecord(uploaded_, UploadStream()),
                  "cudaEventRecord");
}

absl::Status KernelStatus(int cuda_error) {
  return StatusOf(static_cast<cudaError_t>(cuda_error), "a kernel");
}

absl::StatusOr<GpuProperties> FindGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    return absl::NotFoundError(cudaGetErrorString(error));
  }
  QSWEEP_RETURN_IF_ERROR(StatusOf(error, "cudaGetDeviceCount"));
  if (count == 0) {
    return absl::NotFoundError("no CUDA device");
  }
  cudaDeviceProp properties = {};
  QSWEEP_RETURN_IF_ERROR(StatusOf(cudaGetDeviceProperties(&properties, 0),
                                  "cudaGetDeviceProperties"));
  GpuProperties gpu = {
      .name = properties.name,
      .compute_capability = properties.major * 10 + properties.minor};
  if (gpu.compute_capability < kLeastCapability) {
    return absl::NotFoundError(
        absl::StrCat(gpu.name, " is of compute capability ", properties.major,
                     ".", properties.minor, ", and 7.5 is the least"));
  }
  size_t free = 0;
  size_t total = 0;
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  gpu.free_bytes = static_cast<int64_t>(free);
  try {
    c10::cuda::set_device(0);
    allocator::init(1);
  } catch (const std::exception& failure) {
    return MakeError(
        kDeviceFailed,
        absl::StrCat("libtorch cannot use the GPU: ", failure.what()));
  }
  return gpu;
}

absl::Status LimitDeviceMemory(int64_t bytes) {
  size_t free = 0;
  size_t total = 0;
  QSWEEP_RETURN_IF_ERROR(
      StatusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  const double fraction =
      static_cast<double>(bytes) / static_cast<double>(total);
  allocator::setMemoryFraction(std::min(1.0, fraction), 0);
  return absl::OkStatus();
}

void ReleaseUnusedMemory() { allocator::emptyCache(); }

int64_t PeakDeviceMemory() {
  return allocator::getDeviceStats(0)
      .reserved_bytes[static_cast<size_t>(
          c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

}  // namespace qsweep
