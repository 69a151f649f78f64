#ifndef QSWEEP_TESTS_WORKER_KERNELS_DEVICE_KERNEL_TEST_H_
#define QSWEEP_TESTS_WORKER_KERNELS_DEVICE_KERNEL_TEST_H_

#include <string>

#include "gtest/gtest.h"

#include "tests/support/device_memory.h"

namespace qsweep::testing {

// The tests of this folder run under the emulation and, in a program of their
// own, on a CUDA device.
class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = WhyNoDevice();
    if (!reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
  void TearDown() override { EXPECT_EQ(DeviceProblem(), ""); }
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_WORKER_KERNELS_DEVICE_KERNEL_TEST_H_
