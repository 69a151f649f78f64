#ifndef QSWEEP_WORKER_ENGINE_CUDA_MEMORY_H_
#define QSWEEP_WORKER_ENGINE_CUDA_MEMORY_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/kernels/cuda_types.h"

struct CUevent_st;  // what a cudaEvent_t points to

namespace qsweep {

// The GPU's memory and streams, through libtorch's allocator, so that products
// and kernels share it. Everything runs on one compute stream; uploads have a
// stream of their own.

// Bytes of device memory, at a multiple of 512. Movable.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // Of the compute stream: it may be freed before the stream has passed, since
  // nothing but that stream gets the memory next. RESOURCE_EXHAUSTED QS5006;
  // INTERNAL QS5013.
  static absl::StatusOr<DeviceBuffer> Allocate(int64_t bytes);
  // Of the upload stream; free it when the compute stream has passed, too.
  static absl::StatusOr<DeviceBuffer> AllocateForUpload(int64_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  // On the compute stream, with these values; the host waits for the copy.
  template <typename T>
  static absl::StatusOr<DeviceBuffer> Of(std::span<const T> values) {
    return OfBytes(values.data(), static_cast<int64_t>(values.size_bytes()));
  }
  template <typename T>
  static absl::StatusOr<DeviceBuffer> Of(const std::vector<T>& values) {
    return Of(std::span<const T>(values));
  }

  // Makes it at least so large; what was in it is lost where it grows.
  absl::Status Reserve(int64_t bytes);

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  int64_t size() const { return size_; }

 private:
  static absl::StatusOr<DeviceBuffer> AllocateOn(kernels::Stream stream,
                                                 int64_t bytes);
  static absl::StatusOr<DeviceBuffer> OfBytes(const void* values,
                                              int64_t bytes);

  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Page-locked host memory: copies from it run beside the CPU. Movable.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  // QS5013.
  static absl::StatusOr<PinnedBuffer> Allocate(int64_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;

  void* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Page-locked memory from which uploads run beside the CPU. Movable; one thread
// at a time.
class StagingBuffer {
 public:
  StagingBuffer() = default;
  // QS5013.
  static absl::StatusOr<StagingBuffer> Allocate(int64_t bytes);
  ~StagingBuffer();
  StagingBuffer(StagingBuffer&& other) noexcept;
  StagingBuffer& operator=(StagingBuffer&& other) noexcept;

  int64_t size() const { return memory_.size(); }
  // Its bytes, once the last upload from them has passed. QS5013.
  absl::StatusOr<char*> WaitUntilFree();
  // Copies its first bytes on the upload stream. QS5013.
  absl::Status StartUpload(void* to, int64_t bytes);

 private:
  PinnedBuffer memory_;
  CUevent_st* uploaded_ = nullptr;
};

// The stream of all products and kernels: of the thread that computes.
kernels::Stream ComputeStream();
// A stream for uploads beside the computing; the same for the whole process.
kernels::Stream UploadStream();

// Copies that the host waits for, after what is on the compute stream.
absl::Status CopyToDevice(void* to, const void* from, int64_t bytes);
absl::Status CopyFromDevice(void* to, const void* from, int64_t bytes);
// Waits for everything on the stream. INTERNAL QS5013: something on it failed.
absl::Status Synchronize(kernels::Stream stream);

// Of what a kernel's launch returned: INTERNAL QS5013 unless it is 0.
absl::Status KernelStatus(int cuda_error);

// What the GPU is: the first that CUDA_VISIBLE_DEVICES leaves.
struct GpuProperties {
  std::string name;  // "NVIDIA H200"
  int compute_capability = 0;
  int64_t free_bytes = 0;
};
// Chooses it for this process. NOT_FOUND with the reason for people: there is
// none. QS5013: there is one, and it cannot be used.
absl::StatusOr<GpuProperties> FindGpu();

// Lets allocations of this process fail above so many bytes. QS5013.
absl::Status LimitDeviceMemory(int64_t bytes);
// Gives back what the allocator keeps for later, so that no piece of it is in
// the way of a large allocation.
void ReleaseUnusedMemory();
// The most bytes that were allocated at a time since the process began.
int64_t PeakDeviceMemory();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_MEMORY_H_
