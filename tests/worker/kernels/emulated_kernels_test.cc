// The kernels' own tests (device/) run here on the host emulation; these are
// the tests of the emulation: what CUDA leaves undefined must fail a test. And
// one of arithmetic that needs no kernel.
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "worker/kernels/cuda_division.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn_grid.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceProblem;
using ::testing::HasSubstr;

// The sum over the block, by shuffles and shared memory.
QSWEEP_KERNEL SumKernel(const uint32_t* in, uint32_t* out) {
  struct Shared {
    uint32_t of_warp[4];
  };
  QSWEEP_SHARED(Shared, shared);
  uint32_t sum = Load(in + BlockIndex() * BlockThreads() + ThreadIndex());
  for (int mask = 16; mask > 0; mask /= 2) {
    sum += ShuffleXor(sum, mask);
  }
  if (ThreadIndex() % kWarpThreads == 0) {
    shared.of_warp[ThreadIndex() / kWarpThreads] = sum;
  }
  SyncBlock();
  if (ThreadIndex() == 0) {
    for (int warp = 1; warp < 4; ++warp) {
      sum += shared.of_warp[warp];
    }
    Store(out + BlockIndex(), sum);
  }
}

TEST(CudaEmulation, RunsGridsOfThreadsThatMeet) {
  std::vector<uint32_t> numbers;
  for (uint32_t i = 0; i < 3 * 128; ++i) {
    numbers.push_back(i);
  }
  DeviceArray<uint32_t> in(numbers);
  DeviceArray<uint32_t> out(size_t{3});
  ASSERT_EQ(Launch(SumKernel, {3, 128}, nullptr, in.data(), out.data()), 0);
  EXPECT_THAT(out.Read(), ::testing::ElementsAre(127 * 64, 127 * 64 + 128 * 128,
                                                 127 * 64 + 256 * 128));
  EXPECT_EQ(DeviceProblem(), "");
}

QSWEEP_KERNEL LaneMissing() {
  if (ThreadIndex() != 7) {
    ShuffleXor(1, 1);
  }
}
QSWEEP_KERNEL LanesDisagree() { ShuffleXor(1, ThreadIndex() < 16 ? 1 : 2); }
QSWEEP_KERNEL ThreadMissing() {
  if (ThreadIndex() != 40) {
    SyncBlock();
  }
}
QSWEEP_KERNEL ReadsBehindTheEnd(const float* in) { Load(in + ThreadIndex()); }
QSWEEP_KERNEL WritesBeforeTheStart(float* out) {
  Store(out + ThreadIndex() - 1, 1.0f);
}
QSWEEP_KERNEL ReadsAVectorBetweenTwo(const float* in) {
  Load(reinterpret_cast<const Vector16*>(in + 1));
}

TEST(CudaEmulation, FailsWhatCudaLeavesUndefined) {
  DeviceArray<float> array(std::vector<float>(63, 0));
  const Grid grid = {1, 64};
  float* const data = array.data();
  EXPECT_EQ(Launch(LaneMissing, grid, nullptr), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("missing at a shuffle"));
  EXPECT_EQ(Launch(LanesDisagree, grid, nullptr), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("disagree"));
  EXPECT_EQ(Launch(ThreadMissing, grid, nullptr), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("missing at a barrier"));
  EXPECT_EQ(Launch(ReadsBehindTheEnd, grid, nullptr, data), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("thread 63: an access out of range"));
  EXPECT_EQ(Launch(WritesBeforeTheStart, grid, nullptr, data), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("out of range"));
  EXPECT_EQ(Launch(ReadsAVectorBetweenTwo, grid, nullptr, data), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("misaligned"));
  EXPECT_EQ(Launch(LaneMissing, {0, 64}, nullptr), 1);
  EXPECT_THAT(DeviceProblem(), HasSubstr("cannot be launched"));
}

// A barrier is missing between the write and the read.
QSWEEP_KERNEL NeighbourWithoutBarrier(int* out) {
  struct Shared {
    int of_thread[64];
  };
  QSWEEP_SHARED(Shared, shared);
  shared.of_thread[ThreadIndex()] = ThreadIndex();
  Store(out + BlockIndex() * 64 + ThreadIndex(),
        shared.of_thread[63 - ThreadIndex()]);
}

TEST(CudaEmulation, ShowsAMissingBarrier_SinceBlocksRunInBothOrders) {
  DeviceArray<int> out(size_t{128});
  ASSERT_EQ(Launch(NeighbourWithoutBarrier, {2, 64}, nullptr, out.data()), 0);
  const std::vector<int> values = out.Read();
  const std::vector<int> first(values.begin(), values.begin() + 64);
  const std::vector<int> second(values.begin() + 64, values.end());
  EXPECT_NE(first, second);
}

TEST(CudaEmulation, ConvertsFp16AsTheDeviceDoes) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float number = FloatOfHalf(static_cast<uint16_t>(bits));
    if (number == number) {
      ASSERT_EQ(HalfOf(number), bits);
    }
  }
  EXPECT_EQ(HalfOf(65519.0f), 0x7bff);
  EXPECT_EQ(HalfOf(65520.0f), 0x7c00);
  EXPECT_EQ(HalfOf(0x1p-25f), 0);
  EXPECT_EQ(HalfOf(3 * 0x1p-25f), 2);
  EXPECT_EQ(HalfOf(1 + 3 * 0x1p-11f), 0x3c02);
}

// All divisors for which it may be otherwise, see there.
TEST(Quotient, LiesBesideTiesAsDivisionDoes) {
  int64_t differ = 0;
  for (int high = 128; high < 256; ++high) {
    for (int low = -64; low <= 64; ++low) {
      const auto by = static_cast<float>((high << 16) + low);
      const Divisor divisor = DivisorOf(by, 256 * by);
      for (int k = 0; k < 255; ++k) {
        const float tie = by * (static_cast<float>(k) + 0.5f);
        for (uint32_t ulp = 0; ulp <= 8; ++ulp) {
          const auto x =
              std::bit_cast<float>(std::bit_cast<uint32_t>(tie) + ulp - 4);
          const float quotient = Quotient(x, divisor);
          differ += NearestInteger(quotient) != std::nearbyint(x / by) ? 1 : 0;
        }
      }
    }
  }
  EXPECT_EQ(differ, 0);
}

// Divisors of all kinds, beside powers of two too; quotients of all sizes.
TEST(QuotientBy, IsDivision_ToTheLastBit) {
  Random random(5);
  const auto number = [&](int least, int most) {
    const auto exponent = static_cast<uint32_t>(
        127 + least +
        static_cast<int>(random.Below(static_cast<uint64_t>(most - least))));
    const uint64_t kind = random.Below(4);
    const auto fraction = static_cast<uint32_t>(random.Below(1 << 23));
    return std::bit_cast<float>(exponent << 23 |
                                (kind == 0   ? fraction & 7
                                 : kind == 1 ? fraction | 0x7ffff8
                                             : fraction));
  };
  int64_t differ = 0;
  for (int i = 0; i < 50'000; ++i) {
    const float by = number(-60, 15);
    const float reciprocal = 1 / by;
    for (int j = 0; j < 64; ++j) {
      const float x = j == 0 ? 0 : j < 4 ? by * number(0, 8) : number(-90, 60);
      differ += QuotientBy(by, reciprocal, x) == x / by ? 0 : 1;
      differ += QuotientBy(by, reciprocal, -x) == -x / by ? 0 : 1;
    }
  }
  EXPECT_EQ(differ, 0);
}

}  // namespace
}  // namespace qsweep::kernels
