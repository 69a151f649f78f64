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

absl::Status StartUpload(void* to, const void* from, int64_t bytes) {
  return StatusOf(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                                  cudaMemcpyHostToDevice, UploadStream()),
                  "an upload to the GPU");
}

absl::Status Synchronize(kernels::Stream stream) {
  return StatusOf(cudaStreamSynchronize(stream), "the GPU");
}

absl::Status KernelStatus(int cuda_error) {
  return StatusOf(static_cast<cudaError_t>(cuda_error), "a kernel");
}

absl::StatusOr<GpuProperties> FindGpu() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count);
      error != cudaSuccess) {
    return absl::NotFoundError(cudaGetErrorString(error));
  }
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
  } catch (const std::exception& error) {
    return absl::NotFoundError(error.what());
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

int64_t PeakDeviceMemory() {
  return allocator::getDeviceStats(0)
      .reserved_bytes[static_cast<size_t>(
          c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

}  // namespace qsweep
