#include "coordinator/service/server.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "common/base/log.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/channel.h"
#include "common/rpc/lock_checks.h"
#include "coordinator/core/lists.h"
#include "coordinator/loop.h"
#include "coordinator/service/analysis_thread.h"
#include "coordinator/service/authenticator.h"
#include "coordinator/service/certificates.h"
#include "coordinator/service/coordinator_service.h"
#include "coordinator/service/data_directory.h"
#include "coordinator/service/listen_address.h"
#include "coordinator/service/worker_service.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/reader.h"
#include "coordinator/store/sqlite_store.h"

namespace qsweep {
namespace {

constexpr int kNumReaders = 4;
constexpr int kMinPingIntervalMs = 20'000;  // our clients ping every 30 s
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr unsigned kCertificateRefreshSeconds = 2;
constexpr absl::Duration kWarnBefore = absl::Hours(24 * 30);  // of expiry
// Of all connections together, for what is on its way in: gRPC ends calls when
// that is used up, whoever's they are.
constexpr size_t kMaxTransportBytes = size_t{256} << 20;
constexpr int kMaxStreamsPerConnection = 256;  // a client's calls at a time

bool WantsTls(const ListenAddress& listen, bool on_loopback) {
  return listen.socket_path.empty() && (listen.leaves_machine || on_loopback);
}

// gRPC reads the file again when it changes, so that a renewed certificate
// needs no restart: server.pem is replaced whole.
// To be shared: each has a thread.
std::shared_ptr<grpc::ServerCredentials> TlsCredentials(
    const std::string& directory) {
  const std::string path = ServerCertificatePath(directory);
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          path, path, kCertificateRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  return grpc::experimental::TlsServerCredentials(options);
}

class ServerImpl : public Server {
 public:
  ServerImpl(const ServerOptions& options, std::vector<ListenAddress> listen,
             std::optional<Certificates> certificates, std::string token,
             std::unique_ptr<Store> store, const Clock& clock)
      : directory_(options.directory),
        listen_(std::move(listen)),
        tls_on_loopback_(options.tls_on_loopback),
        certificates_(std::move(certificates)),
        token_(std::move(token)),
        clock_(clock),
        loop_(std::move(store), options.settings, clock, options.seed),
        refusals_(clock,
                  [this](AuditRecorded record) {
                    loop_.PostAudit(std::move(record));
                  }),
        authenticator_(token_, loop_.tokens(), clock, refusals_) {}
  ~ServerImpl() override { Stop(absl::Seconds(2)).IgnoreError(); }

  absl::Status StartAll(const std::string& directory, const Clock& clock,
                        const std::shared_ptr<ReadGate>& gate) {
    loop_.OnJobEnd(
        [this](v1::JobSummary job) { analysis_->Add(std::move(job)); });
    QSWEEP_RETURN_IF_ERROR(loop_.Start());
    QSWEEP_ASSIGN_OR_RETURN(
        cache_, AnalysisCache::Open(AnalysisCache::Path(directory)));
    QSWEEP_ASSIGN_OR_RETURN(
        analysis_, AnalysisThread::Start(directory, *cache_, clock, gate));
    QSWEEP_RETURN_IF_ERROR(AddMissingResults());
    QSWEEP_ASSIGN_OR_RETURN(
        readers_, ReaderPool::Start(directory, clock, kNumReaders, gate));
    coordinator_service_ = MakeCoordinatorService(
        loop_, *readers_, *cache_, *analysis_, authenticator_,
        [this]() -> absl::StatusOr<Digest> {
          QSWEEP_ASSIGN_OR_RETURN(const auto now, CurrentCertificates());
          return now ? now->ca_digest : Digest();
        });
    worker_service_ = MakeWorkerService(loop_, *readers_, authenticator_);
    QSWEEP_RETURN_IF_ERROR(Listen());
    loop_thread_ = std::thread([this] {
      absl::Status end = loop_.Run();
      MutexLock lock(mutex_);
      loop_end_ = std::move(end);
    });
    server_->GetHealthCheckService()->SetServingStatus(true);
    return absl::OkStatus();
  }

  const std::vector<std::string>& addresses() const override {
    return addresses_;
  }
  const std::vector<bool>& encrypted() const override { return encrypted_; }
  const std::string& token() const override { return token_; }
  std::string certificate_authority() const override {
    const auto now = CurrentCertificates();
    return now.ok() && now->has_value() ? (*now)->ca_pem : "";
  }

  absl::Status CheckHealth() override {
    const std::optional<absl::Status> end = LoopEnd();
    server_->GetHealthCheckService()->SetServingStatus(!end.has_value() &&
                                                       loop_.Healthy());
    if (!end.has_value()) {
      return absl::OkStatus();
    }
    return end->ok() ? absl::InternalError("the loop ended by itself") : *end;
  }

  absl::Status Stop(absl::Duration grace) override {
    if (stopped_) {
      return absl::OkStatus();
    }
    stopped_ = true;
    if (server_ != nullptr) {
      server_->GetHealthCheckService()->SetServingStatus(false);
    }
    if (loop_thread_.joinable()) {
      loop_.Stop();
      loop_thread_.join();
    }
    if (analysis_ != nullptr) {
      analysis_->Stop();  // nobody adds to it any more
    }
    if (server_ != nullptr) {
      server_->Shutdown(absl::ToChronoTime(clock_.Now() + grace));
      server_->Wait();
    }
    readers_.reset();
    analysis_.reset();
    return LoopEnd().value_or(absl::OkStatus());
  }

 private:
  // Of jobs that ended just before the last process did, and when somebody
  // deleted the cache.
  absl::Status AddMissingResults() {
    for (const auto& [number, job] : loop_.state().jobs()) {
      if (job.terminal()) {
        QSWEEP_ASSIGN_OR_RETURN(const bool saved, cache_->Has(number));
        if (!saved) {
          analysis_->Add(MakeJobSummary(job));
        }
      }
    }
    return absl::OkStatus();
  }

  // What is shown now: the folder may have been made anew. A coordinator that
  // began without certificates shows none.
  absl::StatusOr<std::optional<Certificates>> CurrentCertificates() const {
    if (!certificates_) {
      return std::optional<Certificates>();
    }
    return ReadCertificates(directory_, clock_.Now());
  }

  absl::Status Listen() {
    for (const ListenAddress& listen : listen_) {
      QSWEEP_RETURN_IF_ERROR(PrepareSocket(listen));
    }
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
        kMinPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                               kKeepaliveTimeoutMs);
    builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               kMaxStreamsPerConnection);
    grpc::ResourceQuota quota("qcoordinator");
    builder.SetResourceQuota(quota.Resize(kMaxTransportBytes));
    std::vector<int> ports(listen_.size(), 0);
    std::shared_ptr<grpc::ServerCredentials> tls;
    for (size_t i = 0; i < listen_.size(); ++i) {
      encrypted_.push_back(WantsTls(listen_[i], tls_on_loopback_));
      if (encrypted_.back() && tls == nullptr) {
        tls = TlsCredentials(directory_);
      }
      builder.AddListeningPort(
          listen_[i].address,
          encrypted_.back() ? tls : grpc::InsecureServerCredentials(),
          &ports[i]);
    }
    builder.RegisterService(coordinator_service_.get());
    builder.RegisterService(worker_service_.get());
    server_ = builder.BuildAndStart();
    // gRPC binds in this order and gives up at the first that is taken.
    for (size_t i = 0; i < listen_.size(); ++i) {
      std::string address = listen_[i].address;
      if (ports[i] <= 0) {
        return AddressTaken(address);
      }
      if (listen_[i].socket_path.empty()) {
        address.replace(address.rfind(':') + 1, std::string::npos,
                        absl::StrCat(ports[i]));
      }
      addresses_.push_back(std::move(address));
    }
    if (server_ == nullptr) {
      return absl::InternalError("gRPC did not start the server");
    }
    return absl::OkStatus();
  }

  std::optional<absl::Status> LoopEnd() {
    MutexLock lock(mutex_);
    return loop_end_;
  }

  const std::string directory_;
  const std::vector<ListenAddress> listen_;
  const bool tls_on_loopback_;
  // Of the start; set when one listens with TLS.
  const std::optional<Certificates> certificates_;
  const std::string token_;
  const Clock& clock_;
  std::vector<std::string> addresses_;
  std::vector<bool> encrypted_;
  bool stopped_ = false;

  // In the order they start; the server goes first, the loop last.
  Loop loop_;
  RefusalLog refusals_;
  const Authenticator authenticator_;
  std::unique_ptr<AnalysisCache> cache_;
  std::unique_ptr<AnalysisThread> analysis_;
  std::unique_ptr<ReaderPool> readers_;
  std::unique_ptr<grpc::Service> coordinator_service_;
  std::unique_ptr<grpc::Service> worker_service_;
  std::unique_ptr<grpc::Server> server_;
  std::thread loop_thread_;

  Mutex mutex_;
  std::optional<absl::Status> loop_end_ ABSL_GUARDED_BY(mutex_);
};

// A coordinator of this machine alone needs none, and runs on without when they
// cannot be used.
absl::StatusOr<std::optional<Certificates>> CertificatesFor(
    const ServerOptions& options, const std::vector<ListenAddress>& listen,
    absl::Time now) {
  const auto first =
      std::ranges::find_if(listen, [&options](const ListenAddress& candidate) {
        return WantsTls(candidate, options.tls_on_loopback);
      });
  auto certificates = ReadCertificates(options.directory, now);
  if (first == listen.end()) {
    if (!certificates.ok()) {
      LogWarning(certificates.status().message());
      return std::optional<Certificates>();
    }
    return certificates;
  }
  if (certificates.ok() && !certificates->has_value()) {
    return CertificateNeeded(first->address, options.directory);
  }
  if (certificates.ok() && (*certificates)->expires_at - now < kWarnBefore) {
    LogWarning(absl::StrCat(
        "the certificate expires at ",
        absl::FormatTime("%Y-%m-%d", (*certificates)->expires_at,
                         absl::UTCTimeZone()),
        ": qcoordinator init --dir ", options.directory, " --renew"));
  }
  return certificates;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const ServerOptions& options, const Clock& clock) {
  DisableGrpcLockChecks();
  QSWEEP_RETURN_IF_ERROR(options.settings.Validate());
  std::vector<ListenAddress> listen;
  for (const std::string& text : options.listen) {
    QSWEEP_ASSIGN_OR_RETURN(listen.emplace_back(), ParseListenAddress(text));
  }
  QSWEEP_RETURN_IF_ERROR(MakeDataDirectory(options.directory));
  QSWEEP_ASSIGN_OR_RETURN(std::optional<Certificates> certificates,
                          CertificatesFor(options, listen, clock.Now()));
  const auto gate = std::make_shared<ReadGate>();
  QSWEEP_ASSIGN_OR_RETURN(
      std::unique_ptr<Store> store,
      OpenSqliteStore({.directory = options.directory, .read_gate = gate}));
  QSWEEP_ASSIGN_OR_RETURN(std::string token,
                          ReadOrMakeToken(options.directory));
  auto server = std::make_unique<ServerImpl>(
      options, std::move(listen), std::move(certificates), std::move(token),
      std::move(store), clock);
  QSWEEP_RETURN_IF_ERROR(server->StartAll(options.directory, clock, gate));
  return server;
}

}  // namespace qsweep
