#include "common/rpc/tls_peer.h"

#include <cerrno>
#include <fstream>
#include <memory>
#include <netdb.h>
#include <poll.h>
#include <sstream>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/openssl.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

using X509Ptr = OpenSslPtr<X509, X509_free>;
using BioPtr = OpenSslPtr<BIO, BIO_free_all>;
using SslContextPtr = OpenSslPtr<SSL_CTX, SSL_CTX_free>;
using SslPtr = OpenSslPtr<SSL, SSL_free>;

constexpr unsigned char kAlpn[] = {2, 'h', '2'};

absl::Status Unreachable(const std::string& address, absl::string_view why) {
  return MakeError(
      kUnreachable,
      absl::StrCat("no coordinator answers with TLS at ", address, ": ", why),
      "server", "check the address and that it serves there");
}

std::string ErrnoText() { return std::generic_category().message(errno); }

// A connected, non-blocking socket. Owns it.
class Connection {
 public:
  Connection(std::string address, SteadyTime deadline)
      : address_(std::move(address)), deadline_(deadline) {}
  ~Connection() { Close(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  absl::Status Dial();
  absl::Status Send(absl::string_view bytes);
  // At least one byte.
  absl::StatusOr<std::string> Receive();

 private:
  // True: the socket is ready for `events` before the deadline.
  bool Wait(short events) const;
  bool Connect(const addrinfo& target);
  void Close() {
    if (descriptor_ >= 0) {
      close(descriptor_);
    }
    descriptor_ = -1;
  }

  const std::string address_;
  const SteadyTime deadline_;
  int descriptor_ = -1;
};

bool Connection::Wait(short events) const {
  const absl::Duration left = deadline_ - Clock::Real().SteadyNow();
  if (left <= absl::ZeroDuration()) {
    errno = ETIMEDOUT;
    return false;
  }
  pollfd waiting = {.fd = descriptor_, .events = events, .revents = 0};
  const int ready =
      poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
  if (ready == 0) {
    errno = ETIMEDOUT;
  }
  return ready > 0;
}

bool Connection::Connect(const addrinfo& target) {
  Close();
  descriptor_ =
      socket(target.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor_ < 0) {
    return false;
  }
  if (connect(descriptor_, target.ai_addr, target.ai_addrlen) == 0) {
    return true;
  }
  if (errno != EINPROGRESS || !Wait(POLLOUT)) {
    return false;
  }
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &size);
  errno = error;
  return error == 0;
}

absl::Status Connection::Dial() {
  const size_t colon = address_.rfind(':');
  if (colon == std::string::npos) {
    return Unreachable(address_, "the address has no port");
  }
  absl::string_view host = absl::string_view(address_).substr(0, colon);
  if (absl::StartsWith(host, "[")) {
    host = absl::StripSuffix(absl::StripPrefix(host, "["), "]");
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(std::string(host).c_str(), address_.substr(colon + 1).c_str(),
                  &hints, &found);
  if (failed != 0) {
    return Unreachable(address_, gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found,
                                                             &freeaddrinfo);
  for (const addrinfo* target = found; target != nullptr;
       target = target->ai_next) {
    if (Connect(*target)) {
      return absl::OkStatus();
    }
  }
  return Unreachable(address_, ErrnoText());
}

absl::Status Connection::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    // A peer that is gone must not end the process with SIGPIPE.
    const ssize_t sent =
        send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if ((errno != EAGAIN && errno != EINTR) || !Wait(POLLOUT)) {
      return Unreachable(address_, ErrnoText());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Connection::Receive() {
  char buffer[4096];
  while (true) {
    const ssize_t got = recv(descriptor_, buffer, sizeof(buffer), 0);
    if (got > 0) {
      return std::string(buffer, static_cast<size_t>(got));
    }
    if (got == 0) {
      return Unreachable(address_, "the connection was closed");
    }
    if ((errno != EAGAIN && errno != EINTR) || !Wait(POLLIN)) {
      return Unreachable(address_, ErrnoText());
    }
  }
}

absl::Status SendWritten(BIO* written, Connection& connection) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(written, &data);
  const absl::Status sent =
      connection.Send(absl::string_view(data, static_cast<size_t>(size)));
  BIO_reset(written);
  return sent;
}

// A TLS client over memory: what it writes is sent, what is received is read.
absl::Status Handshake(SSL* ssl, BIO* received, BIO* written,
                       Connection& connection, const std::string& address) {
  while (true) {
    ERR_clear_error();
    const int result = SSL_connect(ssl);
    const int error = SSL_get_error(ssl, result);
    // Also after a failure: the alert that says why.
    const absl::Status sent = SendWritten(written, connection);
    if (result == 1) {
      return sent;
    }
    if (error != SSL_ERROR_WANT_READ) {
      return Unreachable(address, TakeOpenSslError());
    }
    QSWEEP_RETURN_IF_ERROR(sent);
    QSWEEP_ASSIGN_OR_RETURN(const std::string bytes, connection.Receive());
    BIO_write(received, bytes.data(), static_cast<int>(bytes.size()));
  }
}

// Dials and shakes hands; what the context verifies is set before.
struct TlsClient {
  absl::Status Run(const std::string& address, absl::Duration timeout);

  SslContextPtr context{SSL_CTX_new(TLS_client_method())};
  SslPtr ssl;
};

absl::Status TlsClient::Run(const std::string& address,
                            absl::Duration timeout) {
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  ssl.reset(SSL_new(context.get()));
  if (ssl == nullptr) {
    return absl::InternalError(TakeOpenSslError());
  }
  BIO* received = BIO_new(BIO_s_mem());
  BIO* written = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(received, -1);       // nothing yet is not the end
  SSL_set_bio(ssl.get(), received, written);  // takes both
  // What the macro SSL_set_tlsext_host_name is, without its C cast.
  SSL_ctrl(ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
           const_cast<char*>(kCertificateName));
  SSL_set_alpn_protos(ssl.get(), kAlpn, sizeof(kAlpn));
  Connection connection(address, Clock::Real().SteadyNow() + timeout);
  QSWEEP_RETURN_IF_ERROR(connection.Dial());
  return Handshake(ssl.get(), received, written, connection, address);
}

X509Ptr ReadCertificate(const std::string& pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return X509Ptr(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

Digest DigestOf(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  const Digest digest =
      size <= 0 ? Digest() : Digest::Of(std::string(der, der + size));
  OPENSSL_free(der);
  return digest;
}

std::string PemOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

absl::Status WrongServer(const std::string& address, absl::string_view why) {
  return MakeError(kWrongCertificate,
                   absl::StrCat("not the coordinator at ", address, ": ", why),
                   "server",
                   "check the address; if the coordinator was set up anew, ask "
                   "for a new token");
}

}  // namespace

absl::StatusOr<std::string> FetchCertificateAuthority(
    const std::string& address, const Digest& expected,
    absl::Duration timeout) {
  TlsClient client;
  SSL_CTX_set_verify(client.context.get(), SSL_VERIFY_NONE, nullptr);
  QSWEEP_RETURN_IF_ERROR(client.Run(address, timeout));
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(client.ssl.get());
  std::string shown;
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* certificate = sk_X509_value(chain, i);
    const Digest digest = DigestOf(certificate);
    if (digest == expected && X509_check_ca(certificate) != 0) {
      return PemOf(certificate);
    }
    shown = digest.hex();
  }
  return WrongServer(
      address, absl::StrCat("its certificate authority has the SHA-256 ", shown,
                            ", the token names ", expected.hex()));
}

absl::Status CheckServerCertificate(const std::string& address,
                                    const std::string& ca_pem,
                                    absl::Duration timeout) {
  const X509Ptr authority = ReadCertificate(ca_pem);
  if (authority == nullptr) {
    return MakeError(kBadKeyFile, "the pinned certificate cannot be read");
  }
  TlsClient client;
  X509_STORE_add_cert(SSL_CTX_get_cert_store(client.context.get()),
                      authority.get());
  SSL_CTX_set_verify(client.context.get(), SSL_VERIFY_PEER, nullptr);
  X509_VERIFY_PARAM_set1_host(SSL_CTX_get0_param(client.context.get()),
                              kCertificateName, 0);
  const absl::Status status = client.Run(address, timeout);
  if (status.ok() || client.ssl == nullptr) {
    return status;
  }
  const auto verified = SSL_get_verify_result(client.ssl.get());
  if (verified == X509_V_OK) {
    return status;
  }
  const char* why = X509_verify_cert_error_string(verified);
  if (verified == X509_V_ERR_CERT_HAS_EXPIRED) {
    return MakeError(
        kCertificateExpired,
        absl::StrCat("the certificate of ", address, " has expired"), "server",
        "on the coordinator: qcoordinator init --dir DIR --renew, then start "
        "it again");
  }
  return WrongServer(address, why);
}

absl::StatusOr<Digest> DigestOfCertificate(const std::string& pem) {
  const X509Ptr certificate = ReadCertificate(pem);
  if (certificate == nullptr) {
    return MakeError(kBadKeyFile, "no certificate in PEM form");
  }
  return DigestOf(certificate.get());
}

absl::StatusOr<std::string> ReadCertificateFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (ReadCertificate(text.str()) == nullptr) {
    return MakeError(
        kBadKeyFile,
        absl::StrCat("cannot read a certificate from '", path, "'"), path,
        "name the coordinator's DIR/tls/ca.pem");
  }
  return text.str();
}

}  // namespace qsweep
