#include "tests/support/emulated_memory.h"

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "tests/support/device_memory.h"
#include "worker/engine/cuda_memory.h"

namespace qsweep {
namespace {

int64_t limit = 0;  // what stands in for a GPU has no owner to hold it

}  // namespace

namespace testing {

void LimitEmulatedMemory(int64_t bytes) { limit = bytes; }

}  // namespace testing

absl::StatusOr<DeviceBuffer> DeviceBuffer::Allocate(int64_t bytes) {
  if (limit > 0 && bytes > limit) {
    return MakeError(kOutOfMemory, absl::StrCat("no room for ", bytes));
  }
  DeviceBuffer buffer;
  buffer.data_ = testing::DeviceAllocate(static_cast<size_t>(bytes));
  buffer.size_ = bytes;
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) {
    testing::DeviceFree(data_);
  }
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept {
  *this = std::move(other);
}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::OfBytes(const void* values,
                                                   int64_t bytes) {
  QSWEEP_ASSIGN_OR_RETURN(DeviceBuffer buffer, Allocate(bytes));
  testing::CopyToDevice(buffer.data(), values, static_cast<size_t>(bytes));
  return buffer;
}

absl::Status CopyFromDevice(void* to, const void* from, int64_t bytes) {
  testing::CopyFromDevice(to, from, static_cast<size_t>(bytes));
  return absl::OkStatus();
}

kernels::Stream ComputeStream() { return nullptr; }

absl::Status KernelStatus(int cuda_error) {
  return cuda_error == 0
             ? absl::OkStatus()
             : MakeError(kDeviceFailed, absl::StrCat("error ", cuda_error));
}

}  // namespace qsweep
