#include "worker/engine/self_check.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/job/quantizer.h"
#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using kernels::kTileRows;
using testing::CodeOf;

// A library that serves the last row of a tile another way, as real ones do for
// row counts that are no multiple of theirs.
void MultiplyWithOtherTail(const float* rows, int64_t row_stride,
                           const Panel& weight, float* out,
                           int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, out, out_stride);
  float* const last = out + (kTileRows - 1) * out_stride;
  for (int64_t i = 0; i < weight.outputs(); ++i) {
    last[i] *= 1.0000002F;
  }
}

// One that lets a row's neighbour in.
void MultiplyWithNeighbour(const float* rows, int64_t row_stride,
                           const Panel& weight, float* out,
                           int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, out, out_stride);
  out[0] += 1e-6F * rows[row_stride];
}

void MultiplyWrong(const float* rows, int64_t row_stride, const Panel& weight,
                   float* out, int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, out, out_stride);
  for (int64_t r = 0; r < kTileRows; ++r) {
    out[r * out_stride] += 0.01F;
  }
}

// Attention that sees the future.
void AttendWithoutMask(const AttentionHeads& document) {
  AttendDocument(document);
  document.queries[0] += 0.01F * document.values[document.stride];
}

// Attention whose bits change from call to call.
void AttendByTurns(const AttentionHeads& document) {
  static std::atomic<int> calls = 0;
  AttendDocument(document);
  if (calls++ % 2 == 1) {
    document.queries[document.stride] *= 1.0000002F;
  }
}

TEST(CheckReproducible, Passes_ForTheProductsInUse) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    EXPECT_TRUE(CheckReproducible(MultiplyTile, AttendDocument, pool).ok());
  }
}

TEST(CheckReproducible, Fails_WhenProductsAreNot) {
  ThreadPool pool(2);
  for (const Multiply multiply :
       {MultiplyWithOtherTail, MultiplyWithNeighbour, MultiplyWrong}) {
    EXPECT_EQ(CodeOf(CheckReproducible(multiply, AttendDocument, pool)),
              "QS5005");
  }
}

TEST(CheckReproducible, Fails_WhenAttentionIsNot) {
  ThreadPool pool(2);
  for (const Attend attend : {AttendWithoutMask, AttendByTurns}) {
    EXPECT_EQ(CodeOf(CheckReproducible(MultiplyTile, attend, pool)), "QS5005");
  }
}

// A library that has a way of its own for one shape.
void MultiplyWithOwnWay(const float* rows, int64_t row_stride,
                        const Panel& weight, float* out, int64_t out_stride) {
  if (weight.inputs() == 1536) {
    MultiplyWithOtherTail(rows, row_stride, weight, out, out_stride);
  } else {
    MultiplyTile(rows, row_stride, weight, out, out_stride);
  }
}

TEST(CheckShapes, FindsTheShapeThatTheStartUpCheckDoesNotHave) {
  ThreadPool pool(2);
  QSWEEP_EXPECT_OK(CheckReproducible(MultiplyWithOwnWay, AttendDocument, pool));
  const std::vector<ProductShape> shapes = {{96, 112, 200, 208},
                                            {1536, 1552, 96, 112}};
  QSWEEP_EXPECT_OK(
      CheckShapes(MultiplyTile, ProductMode(), shapes, 1e9, {}, pool));
  for (const double operations : {1.0, 1e10}) {
    const absl::Status status = CheckShapes(MultiplyWithOwnWay, ProductMode(),
                                            shapes, operations, {}, pool);
    EXPECT_EQ(CodeOf(status), "QS5005");
    EXPECT_THAT(status.message(), ::testing::HasSubstr("1536 by 96"));
  }
  QSWEEP_EXPECT_OK(CheckShapes(MultiplyWithOwnWay, ProductMode(), {shapes[0]},
                               1e9, {}, pool));
  EXPECT_EQ(
      CodeOf(CheckShapes(MultiplyWrong, ProductMode(), shapes, 1, {}, pool)),
      "QS5005");
}

std::vector<ProductMode> Modes() {
  std::vector<ProductMode> modes = {{.compute = Compute::kFp32},
                                    {.compute = Compute::kBf16}};
  if (CanMultiplyNative()) {
    modes.push_back({.compute = Compute::kBf16, .native = true});
  }
  for (size_t i = modes.size(); i > 0; --i) {
    modes.push_back(modes[i - 1]);
    modes.back().order = SumOrder::kTwoParts;
  }
  return modes;
}

TEST(CheckProducts, Passes_InEveryModeAndOrder) {
  ThreadPool pool(2);
  for (const ProductMode& mode : Modes()) {
    EXPECT_TRUE(CheckProducts(MultiplyTile, mode, pool).ok())
        << ComputeName(mode.compute) << mode.native;
  }
}

TEST(CheckProducts, Fails_WhenProductsInBf16AreNot) {
  ThreadPool pool(2);
  for (const Multiply multiply :
       {MultiplyWithOtherTail, MultiplyWithNeighbour, MultiplyWrong}) {
    EXPECT_EQ(
        CodeOf(CheckProducts(multiply, {.compute = Compute::kBf16}, pool)),
        "QS5005");
  }
}

// One product of every row with itself under each mode.
class MultiplyTileTest : public ::testing::Test {
 protected:
  static constexpr int64_t kOutputs = 170;

  explicit MultiplyTileTest(int64_t inputs = 577)
      : inputs_(inputs),
        rows_(kTileRows * inputs),
        weights_(kOutputs * inputs) {
    Random random(7);
    for (kernels::FloatBuffer* const buffer : {&rows_, &weights_}) {
      for (int64_t i = 0; i < buffer->size(); ++i) {
        buffer->data()[i] = static_cast<float>(random.Uniform() - 0.5);
      }
    }
  }

  std::vector<float> Multiply(const ProductMode& mode) const {
    Matrix matrix(kOutputs, inputs_, mode);
    std::copy_n(weights_.data(), weights_.size(), matrix.row(0));
    matrix.RoundRows(0, 40);
    matrix.RoundRows(40, kOutputs - 40);
    std::vector<float> out(kTileRows * kOutputs);
    matrix.PreparePanel(0);
    MultiplyTile(rows_.data(), inputs_, matrix.panels()[0], out.data(),
                 kOutputs);
    return out;
  }

  // Of values that are rounded by hand.
  double Sum(int64_t row, int64_t output, bool rounded) const {
    double sum = 0;
    for (int64_t i = 0; i < inputs_; ++i) {
      float a = rows_.data()[row * inputs_ + i];
      float b = weights_.data()[output * inputs_ + i];
      if (rounded) {
        kernels::BestRowKernels().round_to_bf16(&a, 1, &a);
        kernels::BestRowKernels().round_to_bf16(&b, 1, &b);
      }
      sum += static_cast<double>(a) * static_cast<double>(b);
    }
    return sum;
  }

  int64_t inputs_;
  kernels::FloatBuffer rows_;
  kernels::FloatBuffer weights_;
};

TEST_F(MultiplyTileTest, RoundsRowsAndWeights_InBf16Alone) {
  for (const ProductMode& mode : Modes()) {
    const std::vector<float> out = Multiply(mode);
    const bool rounded = mode.compute == Compute::kBf16;
    double other = 0;  // how far from the sum that the other mode has
    for (int64_t r = 0; r < kTileRows; r += 9) {
      for (int64_t o = 0; o < kOutputs; ++o) {
        const double got = out[static_cast<size_t>(r * kOutputs + o)];
        EXPECT_NEAR(got, Sum(r, o, rounded), 2e-5);
        other = std::max(other, std::abs(got - Sum(r, o, !rounded)));
      }
    }
    EXPECT_GT(other, 1e-3);
  }
}

// Outputs of several panels, the last of them narrow.
TEST(Matrix, HasAPanelForAllOfItsOutputs) {
  constexpr int64_t kInputs = 96;
  Random random(8);
  for (const int64_t outputs : {int64_t{1}, kPanelOutputs, kPanelOutputs + 1,
                                2 * kPanelOutputs + 192}) {
    Matrix matrix(outputs, kInputs);
    kernels::FloatBuffer rows(kTileRows * kInputs);
    for (int64_t i = 0; i < outputs * kInputs; ++i) {
      matrix.row(0)[i] = static_cast<float>(random.Uniform() - 0.5);
    }
    for (int64_t i = 0; i < rows.size(); ++i) {
      rows.data()[i] = static_cast<float>(random.Uniform() - 0.5);
    }
    std::vector<float> out(static_cast<size_t>(kTileRows * outputs));
    int64_t first = 0;
    for (size_t p = 0; p < matrix.panels().size(); ++p) {
      matrix.PreparePanel(p);
      MultiplyTile(rows.data(), kInputs, matrix.panels()[p], out.data() + first,
                   outputs);
      first += matrix.panels()[p].outputs();
    }
    ASSERT_EQ(first, outputs);
    for (int64_t o = 0; o < outputs; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < kInputs; ++i) {
        sum += static_cast<double>(rows.data()[i]) *
               static_cast<double>(matrix.row(o)[i]);
      }
      EXPECT_NEAR(out[static_cast<size_t>(o)], sum, 1e-5) << o;
    }
  }
}

// In the memory of larger and of smaller ones, and of another mode.
TEST_F(MultiplyTileTest, IsTheSame_WhateverThePanelHeldBefore) {
  Panel used;
  for (const ProductMode& mode : Modes()) {
    Matrix matrix(kOutputs, inputs_, mode);
    std::copy_n(weights_.data(), weights_.size(), matrix.row(0));
    matrix.RoundRows(0, kOutputs);
    for (const int64_t outputs : {int64_t{5}, kOutputs - 3, int64_t{64}}) {
      Panel fresh;
      std::vector<float> outs[2];
      for (Panel* const panel : {&used, &fresh}) {
        std::vector<float>& out = outs[panel == &used ? 0 : 1];
        out.resize(static_cast<size_t>(kTileRows * outputs));
        panel->Prepare(matrix.row(3), inputs_, outputs, mode);
        MultiplyTile(rows_.data(), inputs_, *panel, out.data(), outputs);
      }
      EXPECT_EQ(outs[0], outs[1]) << ComputeName(mode.compute) << outputs;
    }
  }
}

// Widths that fill the blocks of a library and widths that do not, one block
// and several.
class SumOrderTest : public MultiplyTileTest,
                     public ::testing::WithParamInterface<int64_t> {
 protected:
  SumOrderTest() : MultiplyTileTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Inputs, SumOrderTest,
                         ::testing::Values(50, 64, 576, 577, 768, 1536, 4096));

TEST_P(SumOrderTest, DiffersInTheLastBits_WhenTheOrderDoes) {
  for (ProductMode mode : Modes()) {
    mode.order = SumOrder::kUsual;
    const std::vector<float> usual = Multiply(mode);
    mode.order = SumOrder::kTwoParts;
    const std::vector<float> parts = Multiply(mode);
    size_t differing = 0;
    for (size_t i = 0; i < usual.size(); ++i) {
      EXPECT_NEAR(usual[i], parts[i], 2e-5);
      differing += usual[i] != parts[i] ? 1 : 0;
    }
    EXPECT_GT(differing, usual.size() / 10);
  }
}

// A clock that goes on by `first` at the second look at it, and by a
// millisecond at each other.
class ScriptedClock : public Clock {
 public:
  explicit ScriptedClock(absl::Duration first) : first_(first) {}
  SteadyTime SteadyNow() const override {
    now_ = now_ + (++looks_ == 2 ? first_ : absl::Milliseconds(1));
    return now_;
  }
  absl::Time Now() const override { return absl::UnixEpoch(); }

 private:
  const absl::Duration first_;
  mutable int looks_ = 0;
  mutable SteadyTime now_;
};

TEST(MeasureGflops, DoesNotCountARoundThatWasHeldUp) {
  ThreadPool pool(2);
  const double steady =
      MeasureGflops(pool, ScriptedClock(absl::Milliseconds(1)));
  EXPECT_GT(steady, 0);
  EXPECT_EQ(MeasureGflops(pool, ScriptedClock(absl::Seconds(5))), steady);
}

TEST(MeasureGflops, IsPositive) {
  ThreadPool pool(2);
  EXPECT_GT(MeasureGflops(pool), 0);
}

}  // namespace
}  // namespace qsweep
