#include "tests/support/tls_server.h"

#include <csignal>
#include <poll.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "common/base/check.h"
#include "common/base/openssl.h"

namespace qsweep::testing {
namespace {

constexpr int kPollMs = 20;

int ChooseH2(SSL*, const unsigned char** chosen, unsigned char* size,
             const unsigned char*, unsigned, void*) {
  static constexpr unsigned char kH2[] = {'h', '2'};
  *chosen = kH2;
  *size = sizeof(kH2);
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

TlsServer::TlsServer(const std::string& key_pem, const std::string& chain_pem)
    : key_pem_(key_pem), chain_pem_(chain_pem) {
  std::signal(SIGPIPE, SIG_IGN);  // clients may leave at any time
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in local = {};
  local.sin_family = AF_INET;
  local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(local);
  auto* generic = reinterpret_cast<sockaddr*>(&local);
  QSWEEP_CHECK(bind(listener_, generic, size) == 0);
  QSWEEP_CHECK(listen(listener_, 8) == 0);
  QSWEEP_CHECK(getsockname(listener_, generic, &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(local.sin_port));
  thread_ = std::thread([this] { Serve(); });
}

TlsServer::~TlsServer() {
  stopping_ = true;
  thread_.join();
  close(listener_);
}

std::string TlsServer::received() {
  MutexLock lock(mutex_);
  return received_;
}

void TlsServer::Serve() {
  while (!stopping_) {
    pollfd waiting = {.fd = listener_, .events = POLLIN, .revents = 0};
    if (poll(&waiting, 1, kPollMs) <= 0) {
      continue;
    }
    const int descriptor = accept(listener_, nullptr, nullptr);
    if (descriptor >= 0) {
      ++connections_;
      Talk(descriptor);
      close(descriptor);
    }
  }
}

void TlsServer::Talk(int descriptor) {
  // A client that says nothing must not keep the test.
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const OpenSslPtr<SSL_CTX, SSL_CTX_free> context(
      SSL_CTX_new(TLS_server_method()));
  const OpenSslPtr<BIO, BIO_free_all> key_bio(
      BIO_new_mem_buf(key_pem_.data(), static_cast<int>(key_pem_.size())));
  const OpenSslPtr<EVP_PKEY, EVP_PKEY_free> key(
      PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  const OpenSslPtr<BIO, BIO_free_all> chain(
      BIO_new_mem_buf(chain_pem_.data(), static_cast<int>(chain_pem_.size())));
  bool first = true;
  while (X509* certificate =
             PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr)) {
    if (first) {
      SSL_CTX_use_certificate(context.get(), certificate);
      X509_free(certificate);
    } else {
      SSL_CTX_add_extra_chain_cert(context.get(), certificate);  // takes it
    }
    first = false;
  }
  SSL_CTX_use_PrivateKey(context.get(), key.get());
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseH2, nullptr);
  const OpenSslPtr<SSL, SSL_free> ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), descriptor);
  if (SSL_accept(ssl.get()) != 1) {
    return;
  }
  // An empty SETTINGS frame: gRPC's clients wait for it before they call.
  static constexpr unsigned char kSettings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
  SSL_write(ssl.get(), kSettings, sizeof(kSettings));
  char buffer[4096];
  int got = 0;
  while (!stopping_ &&
         (got = SSL_read(ssl.get(), buffer, sizeof(buffer))) > 0) {
    MutexLock lock(mutex_);
    received_.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace qsweep::testing
