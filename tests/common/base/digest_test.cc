#include "common/base/digest.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

// FIPS 180-2, appendix B.1.
constexpr char kAbc[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Digest, IsTheSha256_OfKnownText) {
  EXPECT_EQ(Digest::Of("abc").hex(), kAbc);
}

TEST(Digest, IsTheSame_WhenDataComesInPieces) {
  DigestBuilder builder;
  builder.Update("a");
  builder.Update("");
  builder.Update("bc");
  EXPECT_EQ(builder.Finish(), Digest::Of("abc"));
}

TEST(Digest, ReadsBack_WhatItPrints) {
  const Digest digest = Digest::Of("abc");
  EXPECT_EQ(Digest::FromHex(digest.hex()).value(), digest);
  EXPECT_EQ(Digest::FromBytes(digest.bytes()).value(), digest);
}

TEST(Digest, RefusesText_ThatIsNoDigest) {
  EXPECT_FALSE(Digest::FromHex("abc").ok());
  EXPECT_FALSE(Digest::FromHex(absl::StrCat(kAbc, "0")).ok());
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'x')).ok());
  EXPECT_FALSE(Digest::FromBytes("short").ok());
}

TEST(DigestOfFile, SaysNotFound_WhenTheFileIsMissing) {
  EXPECT_EQ(DigestOfFile("/nonexistent/file").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(DigestOfFile, StopsBeforeTheNextMiB_WhenItIsTold) {
  const testing::TempDir directory;
  directory.Write("file", std::string(3 << 20, 'x'));
  int asked = 0;
  const auto stop_at = [&](int last) {
    asked = 0;
    return DigestOfFile(directory / "file",
                        [&asked, last] { return ++asked == last; });
  };
  EXPECT_EQ(stop_at(2).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(stop_at(100).value(), Digest::Of(std::string(3 << 20, 'x')));
  EXPECT_EQ(asked, 4);  // 3 MiB, and the end
}

}  // namespace
}  // namespace qsweep
