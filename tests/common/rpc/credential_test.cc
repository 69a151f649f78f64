// Joining over real sockets, with servers that are not who they should be.
#include "common/rpc/credential.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/rpc/coordinator_client.h"
#include "common/rpc/tls_peer.h"
#include "coordinator/service/certificates.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tls_server.h"

namespace qsweep::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kTimeout = absl::Seconds(10);

// A set of certificates of their own, made at `now`.
Certificates MakeCertificates(absl::Time now = Clock::Real().Now()) {
  TempDir directory;
  EXPECT_TRUE(InitCertificates(directory.path(), {}, false, now).ok());
  auto certificates = ReadCertificates(directory.path(), now);
  EXPECT_EQ(certificates.status(), absl::OkStatus());
  return **std::move(certificates);
}

JoinTokenText TokenNaming(const Digest& ca) {
  return {.ca = ca, .id = TokenId(1), .secret = Secret::Make()};
}

TEST(JoinCoordinator, SendsNothing_WhenTheAuthorityIsNotTheTokens) {
  const Certificates stranger = MakeCertificates();
  TlsServer server(stranger.key_pem, stranger.chain_pem);
  const TempDir directory;
  const JoinTokenText token = TokenNaming(MakeCertificates().ca_digest);
  const auto refused =
      JoinCoordinator(server.address(), token, "box", directory / "credential");
  EXPECT_EQ(CodeOf(refused), "QS6008");
  EXPECT_THAT(refused.status().message(), HasSubstr(stranger.ca_digest.hex()));
  EXPECT_FALSE(HintOf(refused).empty());
  EXPECT_EQ(server.connections(), 1);
  EXPECT_THAT(server.received(), IsEmpty());
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

// Certificates are public: somebody in between can show the right authority
// behind a certificate of his own.
TEST(JoinCoordinator, SendsNothing_WhenTheAuthorityIsOnlyShown) {
  const Certificates real = MakeCertificates();
  const Certificates stranger = MakeCertificates();
  TlsServer server(stranger.key_pem, stranger.chain_pem + real.ca_pem);
  const TempDir directory;
  const JoinTokenText token = TokenNaming(real.ca_digest);
  const auto refused =
      JoinCoordinator(server.address(), token, "box", directory / "credential");
  EXPECT_EQ(CodeOf(refused), "QS6008");
  EXPECT_GE(server.connections(), 2);  // the chain, then gRPC
  EXPECT_THAT(server.received(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(directory / "credential"));
}

// The server of the tests above does record: given trust, it is told all.
TEST(JoinCoordinator, SendsTheToken_WhenTheServerIsTheTokens) {
  const Certificates real = MakeCertificates();
  TlsServer server(real.key_pem, real.chain_pem);
  const TempDir directory;
  const JoinTokenText token = TokenNaming(real.ca_digest);
  EXPECT_FALSE(JoinCoordinator(server.address(), token, "box",
                               directory / "credential")
                   .ok());  // it does not answer
  EXPECT_THAT(server.received(), HasSubstr(token.secret.hex()));
}

TEST(CheckServerCertificate, SaysWhy) {
  const Certificates real = MakeCertificates();
  TlsServer server(real.key_pem, real.chain_pem);
  QSWEEP_EXPECT_OK(
      CheckServerCertificate(server.address(), real.ca_pem, kTimeout));
  EXPECT_EQ(CodeOf(CheckServerCertificate(server.address(),
                                          MakeCertificates().ca_pem, kTimeout)),
            "QS6008");
  const Certificates old =
      MakeCertificates(Clock::Real().Now() - kServerLifetime - absl::Hours(1));
  TlsServer expired(old.key_pem, old.chain_pem);
  EXPECT_EQ(
      CodeOf(CheckServerCertificate(expired.address(), old.ca_pem, kTimeout)),
      "QS6010");
  CoordinatorClient client({.address = expired.address(),
                            .token = "qsw-1-secret",
                            .ca_pem = old.ca_pem});
  EXPECT_EQ(CodeOf(client.GetStatus({})), "QS6010");
  EXPECT_THAT(expired.received(), IsEmpty());
}

TEST(FetchCertificateAuthority, GivesUp_WhenNobodySpeaksTls) {
  std::string gone;
  {
    const Certificates real = MakeCertificates();
    const TlsServer server(real.key_pem, real.chain_pem);
    gone = server.address();
  }
  EXPECT_EQ(CodeOf(FetchCertificateAuthority(gone, Digest::Of("x"), kTimeout)),
            "QS4001");
  EXPECT_EQ(CodeOf(FetchCertificateAuthority("no-such-host.invalid:1",
                                             Digest::Of("x"), kTimeout)),
            "QS4001");
}

TEST(Credential, ReadsBackWhatItWrote_ForItsOwnerOnly) {
  const TempDir directory;
  const std::string path = directory / "credential";
  EXPECT_FALSE(ReadCredential(path)->has_value());
  const Credential written{.address = "box:7680",
                           .joined_with = TokenId(3),
                           .token = FormatToken(AccessTokenText{
                               .id = TokenId(9), .secret = Secret::Make()}),
                           .ca_pem = MakeCertificates().ca_pem};
  QSWEEP_ASSERT_OK(WriteCredential(path, written));
  const auto read = ReadCredential(path);
  QSWEEP_ASSERT_OK(read);
  EXPECT_EQ((*read)->address, written.address);
  EXPECT_EQ((*read)->joined_with, written.joined_with);
  EXPECT_EQ((*read)->token, written.token);
  EXPECT_EQ((*read)->ca_pem, written.ca_pem);
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);

  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  const auto open_to_all = ReadCredential(path);
  EXPECT_EQ(CodeOf(open_to_all), "QS6011");
  EXPECT_THAT(HintOf(open_to_all), HasSubstr("chmod 600"));
}

TEST(Credential, RefusesADamagedFile) {
  const TempDir directory;
  const std::string path = directory / "credential";
  const Credential whole{.address = "box:7680",
                         .joined_with = TokenId(3),
                         .token = FormatToken(AccessTokenText{
                             .id = TokenId(9), .secret = Secret::Make()}),
                         .ca_pem = MakeCertificates().ca_pem};
  QSWEEP_ASSERT_OK(WriteCredential(path, whole));
  const auto size = std::filesystem::file_size(path);
  for (const auto kept : {size / 2, size / 4, uintmax_t{30}, uintmax_t{0}}) {
    std::filesystem::resize_file(path, kept);
    const auto damaged = ReadCredential(path);
    EXPECT_EQ(CodeOf(damaged), "QS6011") << kept;
    EXPECT_FALSE(HintOf(damaged).empty());
  }
}

TEST(CheckEncrypted, LetsNothingLeaveTheMachineInTheClear) {
  for (const char* address :
       {"unix:/run/q.sock", "localhost:1", "127.0.0.1:1", "[::1]:1"}) {
    QSWEEP_EXPECT_OK(CheckEncrypted({.address = address})) << address;
  }
  for (const char* address :
       {"box:7680", "10.0.0.7:1", "127.example.org:1", "0.0.0.0:1", "[::]:1"}) {
    EXPECT_EQ(CodeOf(CheckEncrypted({.address = address})), "QS6009")
        << address;
    QSWEEP_EXPECT_OK(CheckEncrypted({.address = address, .ca_pem = "a"}));
  }
}

}  // namespace
}  // namespace qsweep::testing
