// Device memory of kernel tests on a CUDA device.
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <string>

#include "tests/support/device_memory.h"

namespace qsweep::testing {
namespace {

// Nothing a test could go on with.
void Check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) {
    std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
    std::abort();
  }
}

}  // namespace

std::string WhyNoDevice() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();  // so that no later call reports it again
    return std::string("no CUDA device: ") + cudaGetErrorString(error);
  }
  return count == 0 ? "no CUDA device" : "";
}

std::string DeviceProblem() {
  if (!WhyNoDevice().empty()) {
    return "";
  }
  const cudaError_t error = cudaDeviceSynchronize();
  cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

void* DeviceAllocate(size_t bytes) {
  void* memory = nullptr;
  Check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "cudaMalloc");
  return memory;
}

void DeviceFree(void* memory) { Check(cudaFree(memory), "cudaFree"); }

void CopyToDevice(void* to, const void* from, size_t bytes) {
  Check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
}

void CopyFromDevice(void* to, const void* from, size_t bytes) {
  Check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

}  // namespace qsweep::testing
