// The tests of device/ on a CUDA device; what is here says which one, or why
// there is none.
#include <cstdio>
#include <string>

#include "gtest/gtest.h"

#if defined(QSWEEP_HAS_NVCC)
#include <cuda_runtime_api.h>

#include "tests/worker/kernels/device/kernel_test.h"

namespace qsweep::testing {
namespace {

TEST_F(KernelTest, RunsOnADevice) {
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  std::printf("%s, sm_%d%d\n", properties.name, properties.major,
              properties.minor);
  EXPECT_GE(properties.major * 10 + properties.minor, 75);
}

}  // namespace
}  // namespace qsweep::testing
#else
TEST(KernelTest, RunsOnADevice) {
  GTEST_SKIP() << "kernels not compiled: no nvcc";
}
#endif
