#include "worker/engine/device.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view which,
                                                   ThreadPool& pool,
                                                   const MemoryLimit& memory) {
  if (which == "cpu") {
    return MakeCpuDevice(pool, memory);
  }
  if (which != "cuda" && which != "auto") {
    return MakeError(kBadValue,
                     absl::StrCat("There is no device '", which, "'."),
                     "--device", "Use auto, cpu or cuda.");
  }
  const absl::Status found = FindCuda();
  if (!absl::IsNotFound(found)) {
    QSWEEP_RETURN_IF_ERROR(found);  // a GPU that fails is no reason to be slow
    return MakeCudaDevice(memory);
  }
  if (which == "cuda") {
    return MakeError(
        kNoDevice,
        absl::StrCat("There is no GPU to use: ", found.message(), "."),
        "--device", "Use --device cpu.");
  }
  return MakeCpuDevice(pool, memory);
}

std::vector<Compute> ComputesOf(const Device& device) {
  std::vector<Compute> computes;
  for (const Compute compute :
       {Compute::kFp32, Compute::kBf16, Compute::kFp16}) {
    if (device.Computes(compute)) {
      computes.push_back(compute);
    }
  }
  return computes;
}

}  // namespace qsweep
