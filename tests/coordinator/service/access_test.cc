// Tokens, roles and TLS over real gRPC: a whole server in this process.
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include "common/base/private_file.h"
#include "common/base/token_text.h"
#include "common/rpc/coordinator_client.h"
#include "common/rpc/credential.h"
#include "common/rpc/tls_peer.h"
#include "coordinator/service/certificates.h"
#include "coordinator/service/method_rules.h"
#include "coordinator/service/server.h"
#include "qsweep/v1/worker.pb.h"
#include "tests/support/child_process.h"
#include "tests/support/error_matchers.h"
#include "tests/support/fake_worker.h"
#include "tests/support/small_sweep.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class AccessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    QSWEEP_ASSERT_OK(
        InitCertificates(directory_.path(), {}, false, Clock::Real().Now()));
    ServerOptions options;
    options.directory = directory_.path();
    options.listen = {absl::StrCat("unix:", directory_ / ".sock"),
                      "127.0.0.1:0"};
    options.tls_on_loopback = true;
    auto server = Server::Start(options, Clock::Real());
    QSWEEP_ASSERT_OK(server);
    server_ = *std::move(server);
    admin_ = std::make_unique<CoordinatorClient>(
        Endpoint{.address = server_->addresses()[0]});
    address_ = server_->addresses()[1];
  }

  Endpoint Encrypted(const std::string& token) const {
    return {.address = address_,
            .token = token,
            .ca_pem = server_->certificate_authority()};
  }

  struct NewToken {
    uint64_t id = 0;
    Secret secret = Secret::Make();
    Digest ca;

    std::string access_text() const {
      return FormatToken(AccessTokenText{
          .id = TokenId(static_cast<int64_t>(id)), .secret = secret});
    }
    JoinTokenText join() const {
      return {
          .ca = ca, .id = TokenId(static_cast<int64_t>(id)), .secret = secret};
    }
  };
  NewToken Create(v1::TokenKind kind, v1::Role role, bool reusable = false,
                  uint64_t ttl_ms = 0, const std::string& name = "") {
    NewToken made;
    v1::CreateTokenRequest request;
    request.set_secret_sha256(made.secret.digest().bytes());
    request.set_kind(kind);
    request.set_role(role);
    request.set_reusable(reusable);
    request.set_ttl_ms(ttl_ms);
    request.set_name(name);
    const auto response = admin_->CreateToken(request);
    EXPECT_EQ(response.status(), absl::OkStatus());
    made.id = response->token().token_id();
    made.ca = *Digest::FromBytes(response->ca_sha256());
    return made;
  }
  Credential Join(const NewToken& token, const std::string& name) {
    auto joined = JoinCoordinator(address_, token.join(), name,
                                  directory_ / ("credential-" + name));
    EXPECT_EQ(joined.status(), absl::OkStatus());
    return *std::move(joined);
  }
  void Revoke(uint64_t id) {
    v1::RevokeTokenRequest request;
    request.set_token_id(id);
    QSWEEP_ASSERT_OK(admin_->RevokeToken(request));
  }

  TempDir directory_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<CoordinatorClient> admin_;
  std::string address_;
};

TEST_F(AccessTest, GivesEachWorkerACredentialThatOnlyItCanCommitWith) {
  SubmitSmallSweep(*admin_);
  const NewToken token =
      Create(v1::TOKEN_KIND_JOIN, v1::ROLE_WORKER, /*reusable=*/true);
  FakeWorker worker(Join(token, "one").endpoint(), "one");
  FakeWorker thief(Join(token, "two").endpoint(), "two");
  worker.Attach();
  const v1::DesiredLease lease = worker.AwaitLease();
  const auto stolen = thief.Commit(lease);
  QSWEEP_ASSERT_OK(stolen);
  EXPECT_EQ(stolen->results(0).outcome(), v1::COMMIT_OUTCOME_REJECTED);
  EXPECT_EQ(stolen->results(0).failure().detail().code(), "QS6002");
  const auto own = worker.Commit(lease);
  QSWEEP_ASSERT_OK(own);
  EXPECT_EQ(own->results(0).outcome(), v1::COMMIT_OUTCOME_OK);
}

TEST_F(AccessTest, EndsAWorkersStream_WhenItsTokenIsRevoked) {
  const NewToken token = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_WORKER);
  FakeWorker worker(Join(token, "box").endpoint(), "box");
  worker.Attach();
  Revoke(token.id + 1);
  EXPECT_EQ(CodeOf(worker.AwaitClosed()), "QS6005");
  EXPECT_EQ(CodeOf(worker.client().GetArtifact(Digest::Of("x"))), "QS6005");
  EXPECT_EQ(CodeOf(worker.AttachRefused()), "QS6005");
}

TEST_F(AccessTest, EndsAWatch_WhenItsTokenIsRevoked) {
  SubmitSmallSweep(*admin_);
  const NewToken token = Create(v1::TOKEN_KIND_ACCESS, v1::ROLE_READ);
  CoordinatorClient reader(Encrypted(token.access_text()));
  v1::WatchJobRequest request;
  request.mutable_job()->set_text("last");
  std::promise<void> watching;
  auto end = std::async(std::launch::async, [&] {
    bool told = false;
    return reader.WatchJob(request, [&](const v1::WatchEvent&) {
      if (!std::exchange(told, true)) {
        watching.set_value();
      }
      return true;
    });
  });
  watching.get_future().wait();
  Revoke(token.id);
  EXPECT_EQ(CodeOf(end.get()), "QS6005");
}

TEST_F(AccessTest, TakesTheOwnerOfAJobFromTheToken) {
  const NewToken named =
      Create(v1::TOKEN_KIND_JOIN, v1::ROLE_SUBMIT, /*reusable=*/true, 0, "lab");
  const NewToken nameless = Create(v1::TOKEN_KIND_ACCESS, v1::ROLE_SUBMIT);
  CoordinatorClient bob(Join(named, "bob").endpoint());
  CoordinatorClient eve(Encrypted(nameless.access_text()));
  CoordinatorClient local(Encrypted(server_->token()));
  AddSmallCorpus(*admin_);
  v1::SubmitJobRequest request = SmallSweepRequest();
  const auto owner_of = [&request](CoordinatorClient& client,
                                   const char* uuid) {
    request.set_job_uuid(Digest::Of(uuid).bytes().substr(0, 16));
    request.set_owner("ada");
    EXPECT_EQ(client.SubmitJob(request).status(), absl::OkStatus());
    v1::GetJobRequest get;
    get.mutable_job()->set_text("last");
    return client.GetJob(get)->summary().owner();
  };
  EXPECT_EQ(owner_of(bob, "1"), "lab");
  EXPECT_EQ(owner_of(eve, "2"), absl::StrCat("token/", nameless.id));
  EXPECT_EQ(owner_of(local, "3"), "ada");
  EXPECT_EQ(owner_of(*admin_, "4"), "ada");
}

TEST_F(AccessTest, TakesAJoinTokenOnce) {
  const NewToken token = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_READ);
  const Credential first = Join(token, "first");
  CoordinatorClient reader(first.endpoint());
  QSWEEP_EXPECT_OK(reader.GetStatus({}));
  const auto second = JoinCoordinator(address_, token.join(), "second",
                                      directory_ / "credential-second");
  EXPECT_EQ(CodeOf(second), "QS6006");
  EXPECT_FALSE(HintOf(second).empty());
  // Not spent on a join whose answer was lost: the same secret is sent again.
  ASSERT_TRUE(ParseAccessToken(first.token).ok());
  const std::string path = directory_ / "credential-lost";
  QSWEEP_ASSERT_OK(WritePrivateFile(
      path + ".new",
      absl::StrCat(token.id, " ", ParseAccessToken(first.token)->secret.hex(),
                   "\n")));
  const auto repeated = JoinCoordinator(address_, token.join(), "first", path);
  QSWEEP_ASSERT_OK(repeated);
  EXPECT_EQ(repeated->token, first.token);
}

TEST_F(AccessTest, RefusesATokenThatIsNotGoodAnyMore) {
  const NewToken expired =
      Create(v1::TOKEN_KIND_ACCESS, v1::ROLE_ADMIN, false, /*ttl_ms=*/1);
  CoordinatorClient late(Encrypted(expired.access_text()));
  std::string code;
  AwaitTrue(absl::Seconds(10), [&] {
    code = CodeOf(late.GetStatus({}));
    return code != "OK";
  });
  EXPECT_EQ(code, "QS6004");

  NewToken other = Create(v1::TOKEN_KIND_ACCESS, v1::ROLE_READ);
  CoordinatorClient reader(Encrypted(other.access_text()));
  QSWEEP_EXPECT_OK(reader.GetStatus({}));
  Revoke(other.id);
  EXPECT_EQ(CodeOf(reader.GetStatus({})), "QS6005");
  // Without the secret nobody learns that.
  other.secret = Secret::Make();
  for (const std::string& wrong :
       {other.access_text(), std::string("qsw-1-abc"), std::string("x")}) {
    CoordinatorClient stranger(Encrypted(wrong));
    EXPECT_EQ(CodeOf(stranger.GetStatus({})), "QS6001") << wrong;
  }
}

TEST_F(AccessTest, SpeaksOnlyTlsAndOnlyToWhoHasAToken) {
  CoordinatorClient plain({.address = address_, .token = server_->token()});
  EXPECT_EQ(CodeOf(plain.GetStatus({})), "QS4001");
  CoordinatorClient nameless(Encrypted(""));
  EXPECT_EQ(CodeOf(nameless.GetStatus({})), "QS6001");
  CoordinatorClient local(Encrypted(server_->token()));
  QSWEEP_EXPECT_OK(local.ListTokens({}));
}

// Calls `method` with an empty message, however many it takes.
grpc::Status CallEmpty(grpc::GenericStub& stub, const std::string& method,
                       const std::string& token) {
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(Clock::Real().Now() + absl::Seconds(20)));
  if (!token.empty()) {
    context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  }
  const grpc::Slice empty;
  grpc::ByteBuffer request(&empty, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, {}, &request, &response,
                 [&](grpc::Status status) { done.set_value(status); });
  return done.get_future().get();
}

// Whoever adds a method without asking who calls fails here.
TEST_F(AccessTest, AsksEveryMethodWhoCalls) {
  struct Holder {
    Principal principal;
    std::string token;
  };
  std::vector<Holder> holders;
  for (const v1::Role role :
       {v1::ROLE_READ, v1::ROLE_SUBMIT, v1::ROLE_WORKER, v1::ROLE_ADMIN}) {
    holders.push_back(
        {{.role = role}, Create(v1::TOKEN_KIND_ACCESS, role).access_text()});
  }
  holders.push_back(
      {{.role = v1::ROLE_ADMIN, .kind = v1::TOKEN_KIND_JOIN},
       Create(v1::TOKEN_KIND_JOIN, v1::ROLE_ADMIN).access_text()});
  grpc::SslCredentialsOptions trust;
  trust.pem_root_certs = server_->certificate_authority();
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("qsweep-coordinator");
  grpc::GenericStub stub(grpc::CreateCustomChannel(
      address_, grpc::SslCredentials(trust), arguments));
  int methods = 0;
  for (const auto* file : {v1::GetStatusRequest::descriptor()->file(),
                           v1::Hello::descriptor()->file()}) {
    const google::protobuf::ServiceDescriptor& service = *file->service(0);
    for (int m = 0; m < service.method_count(); ++m, ++methods) {
      const std::string& name = service.method(m)->name();
      const std::string path =
          absl::StrCat("/", service.full_name(), "/", name);
      SCOPED_TRACE(path);
      EXPECT_EQ(CallEmpty(stub, path, "").error_code(),
                grpc::StatusCode::UNAUTHENTICATED);
      for (const Holder& holder : holders) {
        const auto code = CallEmpty(stub, path, holder.token).error_code();
        EXPECT_EQ(code == grpc::StatusCode::PERMISSION_DENIED,
                  !CheckMethod(holder.principal, name).ok())
            << v1::Role_Name(holder.principal.role) << " " << code;
        EXPECT_NE(code, grpc::StatusCode::UNAUTHENTICATED);
        EXPECT_NE(code, grpc::StatusCode::DEADLINE_EXCEEDED);
      }
    }
  }
  EXPECT_GT(methods, 20);
}

TEST_F(AccessTest, KeepsAnAuditThatQueriesCanRead) {
  const NewToken token = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_READ);
  Join(token, "ada");
  Revoke(token.id + 1);
  CoordinatorClient stranger(Encrypted("x"));
  EXPECT_EQ(CodeOf(stranger.ListTokens({})), "QS6001");
  v1::QueryRequest query;
  query.set_sql(
      "SELECT actor || ' ' || action || ' ' || subject || ' ' || detail FROM "
      "audit_v1 ORDER BY seq");
  std::vector<std::string> lines;
  // The refusal is written behind its answer.
  AwaitTrue(absl::Seconds(10), [&] {
    const auto answer = admin_->Query(query);
    lines.clear();
    for (const v1::QueryRow& row : answer->rows()) {
      lines.push_back(row.values(0).text());
    }
    return lines.size() >= 4;
  });
  EXPECT_THAT(lines, Contains("socket token_created token/1 read"));
  EXPECT_THAT(lines, Contains("token/1 joined token/2 read ada"));
  EXPECT_THAT(lines, Contains("socket token_revoked token/2 read ada"));
  EXPECT_THAT(lines, Contains(AllOf(HasSubstr("ipv4:127.0.0.1:"),
                                    HasSubstr("refused ListTokens QS6001"))));
}

TEST_F(AccessTest, NamesTheNewAuthority_WhenTheFolderWasMadeAnew) {
  const NewToken before = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_READ);
  std::filesystem::remove_all(directory_ / "tls");
  QSWEEP_ASSERT_OK(
      InitCertificates(directory_.path(), {}, false, Clock::Real().Now()));
  const NewToken token = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_READ);
  EXPECT_NE(token.ca, before.ca);
  // gRPC looks at the file every two seconds.
  AwaitTrue(absl::Seconds(60), [&] {
    return CheckServerCertificate(address_, server_->certificate_authority(),
                                  absl::Seconds(5))
        .ok();
  });
  CoordinatorClient reader(Join(token, "ada").endpoint());
  QSWEEP_EXPECT_OK(reader.GetStatus({}));
}

TEST_F(AccessTest, KeepsTokensOverARestart) {
  const NewToken token = Create(v1::TOKEN_KIND_JOIN, v1::ROLE_READ);
  const Credential credential = Join(token, "ada");
  QSWEEP_ASSERT_OK(server_->Stop());
  server_.reset();
  SetUp();
  Endpoint moved = credential.endpoint();
  moved.address = address_;  // another port, the same certificate
  CoordinatorClient reader(moved);
  QSWEEP_EXPECT_OK(reader.GetStatus({}));
  EXPECT_EQ(CodeOf(reader.ListTokens({})), "QS6002");
  EXPECT_EQ(CodeOf(JoinCoordinator(address_, token.join(), "eve",
                                   directory_ / "credential-eve")),
            "QS6006");
}

class StartTest : public ::testing::Test {
 protected:
  absl::Status Start(const std::string& listen, bool tls = false) {
    ServerOptions options;
    options.directory = directory_.path();
    options.listen = {listen};
    options.tls_on_loopback = tls;
    return Server::Start(options, Clock::Real()).status();
  }
  void Init(absl::Time now = Clock::Real().Now()) {
    QSWEEP_ASSERT_OK(InitCertificates(directory_.path(), {}, false, now));
  }

  TempDir directory_;
};

TEST_F(StartTest, ListensForOthersOnlyWithACertificate) {
  const absl::Status refused = Start("0.0.0.0:0");
  EXPECT_EQ(CodeOf(refused), "QS6009");
  EXPECT_EQ(FieldOf(refused), "--listen");
  EXPECT_THAT(HintOf(refused), HasSubstr("qcoordinator init --dir "));
  EXPECT_EQ(CodeOf(Start("127.0.0.1:0", true)), "QS6009");
  QSWEEP_EXPECT_OK(Start("127.0.0.1:0"));
  Init();
  QSWEEP_EXPECT_OK(Start("0.0.0.0:0"));
  QSWEEP_EXPECT_OK(Start("127.0.0.1:0", true));
}

TEST_F(StartTest, RefusesACertificateThatHasExpired) {
  Init(Clock::Real().Now() - kServerLifetime - absl::Hours(1));
  const absl::Status refused = Start("0.0.0.0:0");
  EXPECT_EQ(CodeOf(refused), "QS6010");
  EXPECT_THAT(HintOf(refused), HasSubstr("--renew"));
  QSWEEP_EXPECT_OK(Start("127.0.0.1:0"));  // needs none
  QSWEEP_ASSERT_OK(InitCertificates(directory_.path(), {"box.example.org"},
                                    true, Clock::Real().Now()));
  QSWEEP_EXPECT_OK(Start("0.0.0.0:0"));
}

TEST_F(StartTest, ShowsARenewedCertificateWithoutARestart) {
  Init();
  ServerOptions options;
  options.directory = directory_.path();
  options.listen = {"127.0.0.1:0"};
  options.tls_on_loopback = true;
  const auto server = Server::Start(options, Clock::Real());
  QSWEEP_ASSERT_OK(server);
  const std::string& address = (*server)->addresses()[0];
  const auto shows = [&address](const std::string& ca_pem) {
    return CheckServerCertificate(address, ca_pem, absl::Seconds(5)).ok();
  };
  ASSERT_TRUE(shows((*server)->certificate_authority()));
  // One of another authority, to tell them apart.
  TempDir other;
  QSWEEP_ASSERT_OK(
      InitCertificates(other.path(), {}, false, Clock::Real().Now()));
  const auto pem = ReadPrivateFile(other / "tls/server.pem");
  const auto ca = ReadPrivateFile(other / "tls/ca.pem");
  QSWEEP_ASSERT_OK(WritePrivateFile(directory_ / "tls/server.pem", **pem));
  const SteadyTime began = Clock::Real().SteadyNow();
  bool renewed = false;
  while (!renewed && Clock::Real().SteadyNow() - began < absl::Minutes(1)) {
    renewed = shows(**ca);
  }
  EXPECT_TRUE(renewed);
}

TEST_F(StartTest, RefusesFilesItCannotUse) {
  Init();
  const std::string path = directory_ / "tls/server.pem";
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  EXPECT_EQ(CodeOf(Start("0.0.0.0:0")), "QS6011");
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  TempDir other;
  QSWEEP_ASSERT_OK(
      InitCertificates(other.path(), {}, false, Clock::Real().Now()));
  std::filesystem::rename(other / "tls/ca.pem", directory_ / "tls/ca.pem");
  const absl::Status mixed = Start("0.0.0.0:0");
  EXPECT_EQ(CodeOf(mixed), "QS6011");
  EXPECT_THAT(mixed.message(), HasSubstr("did not sign"));
  directory_.Write("tls/server.pem", "nonsense");
  EXPECT_EQ(CodeOf(Start("0.0.0.0:0")), "QS6011");
  std::filesystem::remove(path);
  EXPECT_EQ(CodeOf(Start("0.0.0.0:0")), "QS6011");
}

}  // namespace
}  // namespace qsweep::testing
