// The commands about access, against a coordinator in this process.
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/base/token_text.h"
#include "coordinator/qctl/qctl.h"
#include "tests/coordinator/qctl/outcome.h"
#include "tests/support/fake_coordinator.h"
#include "tests/support/temp_dir.h"

namespace qsweep::qctl {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using testing::Outcome;
using ::testing::SizeIs;
using Json = nlohmann::json;

class TokensTest : public ::testing::Test {
 protected:
  TokensTest() {
    environment_.variables = {{"HOME", dir_.path()}, {"QCTL_DIR", dir_.path()}};
    environment_.working_dir = dir_.path();
    fake_.script().ca_sha256 = Digest::Of("authority").bytes();
  }

  Outcome Run(const std::vector<std::string>& args) {
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    environment_.in = &in;
    environment_.out = &out;
    environment_.err = &err;
    Outcome outcome;
    outcome.code = RunQctl(args, environment_);
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  const testing::TempDir dir_;
  testing::FakeCoordinator fake_{dir_.path()};
  Environment environment_;
};

TEST_F(TokensTest, MakesAJoinToken_AndKeepsItsSecretFromTheCoordinator) {
  const Outcome outcome = Run({"tokens", "create", "--role", "worker", "--name",
                               "lab", "--ttl", "2h", "-o", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json item = Json::parse(outcome.out)["items"][0];
  EXPECT_EQ(item["role"], "worker");
  const auto token = ParseJoinToken(item["text"].get<std::string>());
  ASSERT_TRUE(token.ok()) << item;
  EXPECT_EQ(token->ca, Digest::Of("authority"));
  EXPECT_EQ(token->id, TokenId(7));
  ASSERT_THAT(fake_.received().tokens, SizeIs(1));
  const v1::CreateTokenRequest& request = fake_.received().tokens[0];
  EXPECT_EQ(request.secret_sha256(), token->secret.digest().bytes());
  EXPECT_EQ(request.role(), v1::ROLE_WORKER);
  EXPECT_EQ(request.kind(), v1::TOKEN_KIND_JOIN);
  EXPECT_EQ(request.name(), "lab");
  EXPECT_FALSE(request.reusable());
  EXPECT_EQ(request.ttl_ms(), 7'200'000u);
  EXPECT_EQ(request.lifetime_ms(), 0u);
}

TEST_F(TokensTest, PassesOnHowLongATokenLives) {
  EXPECT_EQ(Run({"token", "create", "--role", "read", "--reusable", "--expires",
                 "30d"})
                .code,
            0);
  const Outcome direct =
      Run({"tokens", "create", "--role", "submit", "--direct", "--expires",
           "1h30m", "-o", "csv", "--columns", "text", "--no-header"});
  ASSERT_EQ(direct.code, 0) << direct.err;
  EXPECT_TRUE(ParseAccessToken(direct.out).ok()) << direct.out;
  ASSERT_THAT(fake_.received().tokens, SizeIs(2));
  const v1::CreateTokenRequest& join = fake_.received().tokens[0];
  EXPECT_TRUE(join.reusable());
  EXPECT_EQ(join.ttl_ms(), 24u * 3'600'000);
  EXPECT_EQ(join.lifetime_ms(), 30u * 24 * 3'600'000);
  const v1::CreateTokenRequest& access = fake_.received().tokens[1];
  EXPECT_EQ(access.kind(), v1::TOKEN_KIND_ACCESS);
  EXPECT_EQ(access.ttl_ms(), 5'400'000u);
  EXPECT_EQ(access.lifetime_ms(), 0u);
}

TEST_F(TokensTest, RefusesFlagsThatMeanNothingTogether) {
  EXPECT_EQ(Run({"tokens", "create"}).code, 2);
  EXPECT_EQ(Run({"tokens", "create", "--role", "root"}).code, 2);
  EXPECT_EQ(
      Run({"tokens", "create", "--role", "read", "--ttl", "30 days"}).code, 2);
  for (const char* flag : {"--reusable", "--ttl=1h"}) {
    const Outcome outcome =
        Run({"tokens", "create", "--role", "read", "--direct", flag});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("error[QS1060]"));
  }
  EXPECT_EQ(Run({"tokens", "revoke"}).code, 2);
  EXPECT_EQ(Run({"tokens", "revoke", "lab"}).code, 2);
  EXPECT_THAT(fake_.received().tokens, SizeIs(0));
}

TEST_F(TokensTest, ListsTokensWithTheirState) {
  v1::Token used;
  used.set_token_id(1);
  used.set_kind(v1::TOKEN_KIND_JOIN);
  used.set_role(v1::ROLE_WORKER);
  used.set_name("lab");
  used.set_uses(1);
  used.set_created_by("socket");
  v1::Token valid = used;
  valid.set_token_id(2);
  valid.set_kind(v1::TOKEN_KIND_ACCESS);
  v1::Token expired = valid;
  expired.set_token_id(3);
  expired.set_expires_at_us(1);
  v1::Token revoked = expired;
  revoked.set_token_id(4);
  revoked.set_revoked_at_us(1);
  fake_.script().tokens = {used, valid, expired, revoked};
  const Outcome list = Run({"tokens", "-o", "csv", "--no-header", "--columns",
                            "token,kind,role,state,uses"});
  EXPECT_EQ(list.out,
            "1,join,worker,used,1\n2,access,worker,valid,\n"
            "3,access,worker,expired,\n4,access,worker,revoked,\n");
  EXPECT_THAT(Run({"tokens", "list"}).out,
              AllOf(HasSubstr("TOKEN"), ContainsRegex("1 .*join .*lab")));

  EXPECT_EQ(Run({"tokens", "revoke", "2", "--joined"}).code, 0);
  ASSERT_THAT(fake_.received().revoked, SizeIs(1));
  EXPECT_EQ(fake_.received().revoked[0].token_id(), 2u);
  EXPECT_TRUE(fake_.received().revoked[0].joined_too());
}

TEST_F(TokensTest, RefusesALoginBeforeItDialsAnybody) {
  const Outcome none = Run({"login", "box.example.org:7680"});
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("qctl tokens create"));
  const Outcome wrong =
      Run({"login", "box.example.org:7680", "--token", "qsw-7-secretsecret"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("error[QS6007]"),
                               ::testing::Not(HasSubstr("secretsecret"))));
  const std::string token = FormatToken(JoinTokenText{
      .ca = Digest::Of("x"), .id = TokenId(1), .secret = Secret::Make()});
  EXPECT_EQ(Run({"login", "unix:/tmp/s", "--token", token}).code, 2);
}

TEST_F(TokensTest, RefusesToCallAnotherMachineInTheClear) {
  const Outcome outcome = Run({"jobs", "--server", "box.example.org:7680"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("error[QS6009]"), HasSubstr("qctl login")));
}

}  // namespace
}  // namespace qsweep::qctl
