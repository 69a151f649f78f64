// In place of cuda_device.cc where libtorch or the toolchain has no CUDA.
#include <memory>

#include "absl/status/status.h"

#include "worker/engine/device.h"

namespace qsweep {

absl::Status FindCuda() {
  return absl::NotFoundError(
      "this engine was built without CUDA (nvcc and a CUDA libtorch)");
}

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const MemoryLimit&) {
  return FindCuda();
}

}  // namespace qsweep
