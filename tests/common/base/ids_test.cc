#include "common/base/ids.h"

#include "gtest/gtest.h"

namespace qsweep {
namespace {

TEST(Uuid, ReadsBack_WhatItPrints) {
  const JobUuid uuid =
      JobUuid::FromText("7f3a91c2-0001-4abc-8def-0123456789ab").value();
  EXPECT_EQ(uuid.text(), "7f3a91c2-0001-4abc-8def-0123456789ab");
  EXPECT_EQ(JobUuid::FromBytes(uuid.bytes()).value(), uuid);
}

TEST(Uuid, RefusesText_ThatIsNoUuid) {
  EXPECT_FALSE(JobUuid::FromText("7f3a91c2").ok());
  EXPECT_FALSE(JobUuid::FromText("7f3a91c2-0001-4abc-8def-0123456789xy").ok());
  EXPECT_FALSE(JobUuid::FromBytes("abc").ok());
}

TEST(IntegerId, GrowsByOne) {
  EXPECT_EQ(Epoch(4).Next(), Epoch(5));
  EXPECT_FALSE(Epoch().valid());
}

}  // namespace
}  // namespace qsweep
