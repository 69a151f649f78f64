#include "coordinator/core/access.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::CreateTokenRequest JoinTokenRequest(const std::string& secret) {
  v1::CreateTokenRequest request;
  request.set_secret_sha256(TestDigest(secret).bytes());
  request.set_kind(v1::TOKEN_KIND_JOIN);
  request.set_role(v1::ROLE_WORKER);
  request.set_name("lab");
  request.set_ttl_ms(3'600'000);
  return request;
}

v1::JoinRequest Joiner(const std::string& secret) {
  v1::JoinRequest request;
  request.set_secret_sha256(TestDigest(secret).bytes());
  request.set_name(secret);
  return request;
}

class AccessTest : public ::testing::Test {
 protected:
  TokenId Create(const v1::CreateTokenRequest& request) {
    return Carry(DecideCreateToken(state_, "socket", request, now_));
  }
  absl::StatusOr<v1::JoinResponse> Join(TokenId token,
                                        const std::string& secret) {
    auto decision = DecideJoin(state_, token, Joiner(secret), now_);
    state_ = After(state_, decision.mutations);
    return decision.reply;
  }
  template <typename Response>
  TokenId Carry(const Decision<Response>& decision) {
    EXPECT_EQ(decision.reply.status(), absl::OkStatus());
    state_ = After(state_, decision.mutations);
    return TokenId(static_cast<int64_t>(decision.reply->token().token_id()));
  }
  std::vector<uint64_t> Revoke(TokenId token, bool joined_too) {
    v1::RevokeTokenRequest request;
    request.set_token_id(static_cast<uint64_t>(token.value()));
    request.set_joined_too(joined_too);
    const auto decision = DecideRevokeToken(state_, "socket", request, now_);
    EXPECT_EQ(decision.reply.status(), absl::OkStatus());
    state_ = After(state_, decision.mutations);
    std::vector<uint64_t> revoked;
    for (const v1::Token& one : decision.reply->revoked()) {
      revoked.push_back(one.token_id());
    }
    return revoked;
  }

  State state_;
  Now now_ = TestNow();
};

TEST_F(AccessTest, ExchangesAJoinToken_Once) {
  const TokenId join = Create(JoinTokenRequest("join"));
  const auto joined = Join(join, "w1");
  QSWEEP_ASSERT_OK(joined);
  EXPECT_EQ(joined->token().role(), v1::ROLE_WORKER);
  EXPECT_EQ(joined->token().kind(), v1::TOKEN_KIND_ACCESS);
  EXPECT_EQ(joined->token().joined_with(), 1u);
  EXPECT_EQ(joined->token().name(), "w1");
  EXPECT_EQ(joined->token().expires_at_us(), 0);  // the ttl is the join token's
  EXPECT_EQ(state_.FindToken(join)->uses, 1);

  EXPECT_EQ(CodeOf(Join(join, "w2")), "QS6006");
  // The answer was lost: the same secret is the same worker.
  const auto again = Join(join, "w1");
  QSWEEP_ASSERT_OK(again);
  EXPECT_EQ(again->token().token_id(), joined->token().token_id());
  EXPECT_EQ(state_.tokens().size(), 2u);
}

TEST_F(AccessTest, ExchangesAReusableTokenUntilItExpires) {
  v1::CreateTokenRequest request = JoinTokenRequest("join");
  request.set_reusable(true);
  request.set_lifetime_ms(60'000);
  const TokenId join = Create(request);
  QSWEEP_EXPECT_OK(Join(join, "w1"));
  const auto second = Join(join, "w2");
  QSWEEP_ASSERT_OK(second);
  EXPECT_EQ(second->token().expires_at_us(),
            absl::ToUnixMicros(now_.wall + absl::Minutes(1)));
  EXPECT_EQ(state_.FindToken(join)->uses, 2);

  const TokenId worker(static_cast<int64_t>(second->token().token_id()));
  QSWEEP_EXPECT_OK(
      CheckIdentity(state_, IdentityOfToken(worker), Digest(), now_));
  now_.wall += absl::Minutes(1);
  EXPECT_EQ(
      CodeOf(CheckIdentity(state_, IdentityOfToken(worker), Digest(), now_)),
      "QS6004");
  now_.wall += absl::Minutes(58);
  QSWEEP_EXPECT_OK(Join(join, "w3"));
  now_.wall += absl::Minutes(1);
  EXPECT_EQ(CodeOf(Join(join, "w4")), "QS6004");
}

TEST_F(AccessTest, RevokesATokenAndWhatJoinedWithIt) {
  v1::CreateTokenRequest request = JoinTokenRequest("join");
  request.set_reusable(true);
  const TokenId join = Create(request);
  const TokenId other = Create(JoinTokenRequest("other"));
  QSWEEP_ASSERT_OK(Join(join, "w1"));
  QSWEEP_ASSERT_OK(Join(join, "w2"));

  EXPECT_THAT(Revoke(TokenId(3), false), ElementsAre(3u));
  EXPECT_EQ(CodeOf(CheckIdentity(state_, "token/3", Digest(), now_)), "QS6005");
  QSWEEP_EXPECT_OK(CheckIdentity(state_, "token/4", Digest(), now_));
  EXPECT_THAT(Revoke(join, true), ElementsAre(1u, 4u));  // 3 was before
  EXPECT_THAT(Revoke(join, true), IsEmpty());
  EXPECT_EQ(CodeOf(Join(join, "w3")), "QS6005");
  EXPECT_EQ(CodeOf(Join(join, "w1")), "QS6005");  // known, but ended
  QSWEEP_EXPECT_OK(Join(other, "w4"));

  v1::RevokeTokenRequest unknown;
  unknown.set_token_id(99);
  EXPECT_EQ(CodeOf(DecideRevokeToken(state_, "socket", unknown, now_).reply),
            "QS6012");
}

TEST_F(AccessTest, MakesTheSameToken_WhenTheRequestIsRepeated) {
  const TokenId first = Create(JoinTokenRequest("join"));
  EXPECT_EQ(Create(JoinTokenRequest("join")), first);
  v1::CreateTokenRequest other = JoinTokenRequest("join");
  other.set_role(v1::ROLE_ADMIN);
  EXPECT_EQ(CodeOf(DecideCreateToken(state_, "socket", other, now_).reply),
            "QS1004");
  // Nor may a stranger's secret become his token.
  EXPECT_EQ(CodeOf(Join(first, "join")), "QS1004");
}

TEST_F(AccessTest, RefusesFieldsThatAreWrong) {
  const auto refused = [&](const v1::CreateTokenRequest& request) {
    const auto decision = DecideCreateToken(state_, "socket", request, now_);
    EXPECT_THAT(decision.mutations, IsEmpty());
    return FieldOf(decision.reply);
  };
  v1::CreateTokenRequest request = JoinTokenRequest("join");
  request.set_role(v1::ROLE_UNSPECIFIED);
  EXPECT_EQ(refused(request), "role");
  request = JoinTokenRequest("join");
  request.set_kind(v1::TOKEN_KIND_UNSPECIFIED);
  EXPECT_EQ(refused(request), "kind");
  request.set_kind(v1::TOKEN_KIND_ACCESS);
  request.set_reusable(true);
  EXPECT_EQ(refused(request), "kind");
  request = JoinTokenRequest("join");
  request.set_secret_sha256("short");
  EXPECT_EQ(refused(request), "secret_sha256");
  request = JoinTokenRequest("join");
  request.set_name(std::string(201, 'x'));
  EXPECT_EQ(refused(request), "name");
  request = JoinTokenRequest("join");
  request.set_ttl_ms(~uint64_t{0});
  EXPECT_EQ(refused(request), "ttl_ms");
}

TEST_F(AccessTest, LeavesALineInTheAuditForEachChange) {
  std::vector<std::string> lines;
  const auto note = [&lines](const std::vector<Mutation>& mutations) {
    for (const AuditRecorded& line : Only<AuditRecorded>(mutations)) {
      lines.push_back(line.actor + " " + line.action + " " + line.subject +
                      " " + line.detail);
    }
  };
  auto created =
      DecideCreateToken(state_, "socket", JoinTokenRequest("join"), now_);
  note(created.mutations);
  state_ = After(state_, created.mutations);
  auto joined = DecideJoin(state_, TokenId(1), Joiner("w1"), now_);
  note(joined.mutations);
  state_ = After(state_, joined.mutations);
  v1::RevokeTokenRequest revoke;
  revoke.set_token_id(2);
  note(DecideRevokeToken(state_, "token/9", revoke, now_).mutations);
  EXPECT_THAT(lines, ElementsAre("socket token_created token/1 worker lab",
                                 "token/1 joined token/2 worker w1",
                                 "token/9 token_revoked token/2 worker w1"));
}

TEST_F(AccessTest, LeavesIdentitiesAloneThatAreNoTokens) {
  QSWEEP_EXPECT_OK(CheckIdentity(state_, "", Digest(), now_));
  QSWEEP_EXPECT_OK(
      CheckIdentity(state_, "local/0123456789abcdef", Digest(), now_));
  EXPECT_EQ(CodeOf(CheckIdentity(state_, "token/5", Digest(), now_)), "QS6001");
}

TEST_F(AccessTest, GivesATokenAnotherSecret) {
  const TokenId join = Create(JoinTokenRequest("join"));
  QSWEEP_ASSERT_OK(Join(join, "w1"));
  const Digest old = state_.tokens().at(TokenId(2)).secret;
  v1::RotateTokenRequest request;
  request.set_token_id(2);
  request.set_secret_sha256(Digest::Of("new").bytes());
  const auto rotated = DecideRotateToken(state_, "socket", request, now_);
  QSWEEP_ASSERT_OK(rotated.reply);
  ASSERT_EQ(Only<AuditRecorded>(rotated.mutations).size(), 1u);
  EXPECT_EQ(Only<AuditRecorded>(rotated.mutations)[0].action, "token_rotated");
  state_ = After(state_, rotated.mutations);
  EXPECT_EQ(state_.FindTokenBySecret(old), nullptr);
  EXPECT_EQ(state_.FindTokenBySecret(Digest::Of("new"))->id, TokenId(2));
  EXPECT_EQ(CodeOf(CheckIdentity(state_, "token/2", old, now_)), "QS6001");
  QSWEEP_EXPECT_OK(CheckIdentity(state_, "token/2", Digest::Of("new"), now_));
  // Again: the answer was lost.
  const auto again = DecideRotateToken(state_, "socket", request, now_);
  QSWEEP_EXPECT_OK(again.reply);
  EXPECT_THAT(again.mutations, IsEmpty());
  const auto refused = [&](uint64_t token, const std::string& secret) {
    request.set_token_id(token);
    request.set_secret_sha256(secret);
    return CodeOf(DecideRotateToken(state_, "socket", request, now_).reply);
  };
  EXPECT_EQ(refused(99, Digest::Of("x").bytes()), "QS6012");
  EXPECT_EQ(refused(1, Digest::Of("x").bytes()), "QS1004");  // joins
  EXPECT_EQ(refused(2, "short"), "QS1004");
  EXPECT_EQ(refused(2, state_.tokens().at(join).secret.bytes()), "QS1004");
  Revoke(TokenId(2), false);
  EXPECT_EQ(refused(2, Digest::Of("x").bytes()), "QS6005");
  EXPECT_TRUE(absl::IsFailedPrecondition(
      DecideRotateToken(state_, "socket", request, now_).reply.status()));
}

}  // namespace
}  // namespace qsweep::testing
