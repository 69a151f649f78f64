#include "coordinator/commit_gather.h"

#include <barrier>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qsweep {
namespace {

v1::CommitResultResponse::One Part(int index) {
  v1::CommitResultResponse::One one;
  one.set_outcome(v1::COMMIT_OUTCOME_OK);
  one.mutable_failure()->set_message(absl::StrCat("part ", index));
  return one;
}

TEST(CommitGather, RepliesWithTheLastPart_InTheOrderOfTheRequest) {
  std::vector<absl::StatusOr<v1::CommitResultResponse>> replies;
  CommitGather gather(3, [&](auto r) { replies.push_back(std::move(r)); });
  for (const int index : {1, 2, 0}) {
    EXPECT_TRUE(replies.empty());
    gather.Add(index, Part(index));
  }
  ASSERT_EQ(replies.size(), 1u);
  ASSERT_TRUE(replies[0].ok()) << replies[0].status();
  ASSERT_EQ((*replies[0]).results_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ((*replies[0]).results(i).failure().message(),
              absl::StrCat("part ", i));
  }
}

TEST(CommitGather, RepliesWithTheError_WhenAnyPartWasRefused) {
  for (int refused = 0; refused < 3; ++refused) {
    std::vector<absl::StatusOr<v1::CommitResultResponse>> replies;
    CommitGather gather(3, [&](auto r) { replies.push_back(std::move(r)); });
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(replies.empty());
      if (i == refused) {
        gather.Add(i, absl::ResourceExhaustedError("full"));
      } else {
        gather.Add(i, Part(i));
      }
    }
    ASSERT_EQ(replies.size(), 1u);
    EXPECT_EQ(replies[0].status(), absl::ResourceExhaustedError("full"));
  }
}

// Nothing but the gather orders the parts here, so that a race in it is there
// in every run.
TEST(CommitGather, RepliesOnceWithEveryPart_WhenThreadsAddAtTheSameTime) {
  constexpr int kThreads = 4;
  constexpr int kPartsOfEach = 8;
  constexpr int kParts = kThreads * kPartsOfEach;
  constexpr int kGathers = 300;
  std::vector<int> replies(kGathers);  // whoever comes last writes
  std::vector<int> filled(kGathers);
  std::vector<std::unique_ptr<CommitGather>> gathers;
  for (size_t g = 0; g < kGathers; ++g) {
    gathers.push_back(std::make_unique<CommitGather>(kParts, [&, g](auto r) {
      ++replies[g];
      for (int i = 0; i < kParts && r.ok(); ++i) {
        filled[g] +=
            (*r).results(i).failure().message() == absl::StrCat("part ", i);
      }
    }));
  }
  std::barrier start(kThreads);
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      start.arrive_and_wait();
      for (const auto& gather : gathers) {
        for (int i = thread; i < kParts; i += kThreads) {
          gather->Add(i, Part(i));
        }
      }
    });
  }
  threads.clear();  // joins
  EXPECT_THAT(replies, ::testing::Each(1));
  EXPECT_THAT(filled, ::testing::Each(kParts));
}

}  // namespace
}  // namespace qsweep
