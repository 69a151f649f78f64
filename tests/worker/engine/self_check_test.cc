#include "worker/engine/self_check.h"

#include <atomic>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using kernels::kTileRows;
using testing::CodeOf;

// A library that serves the last row of a tile another way, as real ones do for
// row counts that are no multiple of theirs.
void MultiplyWithOtherTail(const float* rows, int64_t row_stride,
                           const Matrix& weight, int64_t first, int64_t count,
                           float* out, int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, first, count, out, out_stride);
  float* const last = out + (kTileRows - 1) * out_stride;
  for (int64_t i = 0; i < count; ++i) {
    last[i] *= 1.0000002F;
  }
}

// One that lets a row's neighbour in.
void MultiplyWithNeighbour(const float* rows, int64_t row_stride,
                           const Matrix& weight, int64_t first, int64_t count,
                           float* out, int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, first, count, out, out_stride);
  out[0] += 1e-6F * rows[row_stride];
}

void MultiplyWrong(const float* rows, int64_t row_stride, const Matrix& weight,
                   int64_t first, int64_t count, float* out,
                   int64_t out_stride) {
  MultiplyTile(rows, row_stride, weight, first, count, out, out_stride);
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
                        const Matrix& weight, int64_t first, int64_t count,
                        float* out, int64_t out_stride) {
  if (weight.inputs() == 1536) {
    MultiplyWithOtherTail(rows, row_stride, weight, first, count, out,
                          out_stride);
  } else {
    MultiplyTile(rows, row_stride, weight, first, count, out, out_stride);
  }
}

TEST(CheckShapes, FindsTheShapeThatTheStartUpCheckDoesNotHave) {
  ThreadPool pool(2);
  QSWEEP_EXPECT_OK(CheckReproducible(MultiplyWithOwnWay, AttendDocument, pool));
  const std::vector<ProductShape> shapes = {{96, 112, 200, 208},
                                            {1536, 1552, 96, 112}};
  QSWEEP_EXPECT_OK(CheckShapes(MultiplyTile, shapes, 1e9, pool));
  for (const double operations : {1.0, 1e10}) {
    const absl::Status status =
        CheckShapes(MultiplyWithOwnWay, shapes, operations, pool);
    EXPECT_EQ(CodeOf(status), "QS5005");
    EXPECT_THAT(status.message(), ::testing::HasSubstr("1536 by 96"));
  }
  QSWEEP_EXPECT_OK(CheckShapes(MultiplyWithOwnWay, {shapes[0]}, 1e9, pool));
  EXPECT_EQ(CodeOf(CheckShapes(MultiplyWrong, shapes, 1, pool)), "QS5005");
}

TEST(MeasureGflops, IsPositive) {
  ThreadPool pool(2);
  EXPECT_GT(MeasureGflops(pool), 0);
}

}  // namespace
}  // namespace qsweep
