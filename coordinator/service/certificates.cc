#include "coordinator/service/certificates.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/openssl.h"
#include "common/base/private_file.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/rpc/tls_peer.h"

namespace qsweep {
namespace {

using BioPtr = OpenSslPtr<BIO, BIO_free_all>;
using KeyPtr = OpenSslPtr<EVP_PKEY, EVP_PKEY_free>;
using X509Ptr = OpenSslPtr<X509, X509_free>;
using ExtensionPtr = OpenSslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using NumberPtr = OpenSslPtr<BIGNUM, BN_free>;

// Clocks of clients may be behind.
constexpr absl::Duration kBackdated = absl::Hours(1);
constexpr int kSerialBytes = 16;
constexpr size_t kMaxNameBytes = 253;

std::string Folder(const std::string& directory) { return directory + "/tls"; }
std::string AuthorityPath(const std::string& folder) {
  return folder + "/ca.pem";
}
std::string AuthorityKeyPath(const std::string& folder) {
  return folder + "/ca.key";
}
std::string ServerPath(const std::string& folder) {
  return folder + "/server.pem";
}

absl::Status OpenSslFailed(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", TakeOpenSslError()));
}

absl::Status BadFile(const std::string& path, absl::string_view why,
                     absl::string_view hint = "") {
  return MakeError(kBadKeyFile, absl::StrCat("cannot use '", path, "': ", why),
                   path, hint);
}

// "DNS:box.example.org" or "IP:10.0.0.7". Only characters that mean nothing
// else in OpenSSL's list of names.
absl::StatusOr<std::string> AlternativeName(const std::string& name) {
  in6_addr address = {};
  if (inet_pton(AF_INET, name.c_str(), &address) == 1 ||
      inet_pton(AF_INET6, name.c_str(), &address) == 1) {
    return absl::StrCat("IP:", name);
  }
  const bool good = std::ranges::all_of(name, [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '-';
  });
  if (!good || name.empty() || name.size() > kMaxNameBytes) {
    return MakeError(kBadValue,
                     absl::StrCat("'", name, "' is no host name or address"),
                     "--name", "write it like box.example.org or 10.0.0.7");
  }
  return absl::StrCat("DNS:", name);
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string PemOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return TextOf(bio.get());
}

std::string PemOf(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr,
                           nullptr);
  return TextOf(bio.get());
}

BioPtr Over(const std::string& pem) {
  return BioPtr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

X509Ptr CertificateIn(const std::string& pem) {
  return X509Ptr(PEM_read_bio_X509(Over(pem).get(), nullptr, nullptr, nullptr));
}

KeyPtr KeyIn(const std::string& pem) {
  return KeyPtr(
      PEM_read_bio_PrivateKey(Over(pem).get(), nullptr, nullptr, nullptr));
}

KeyPtr MakeKey() {
  return KeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
}

bool AddExtension(X509* certificate, X509* issuer, int nid,
                  const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr &&
         X509_add_ext(certificate, extension.get(), -1) == 1;
}

struct Subject {
  std::string common_name;
  absl::Duration lifetime;
  std::vector<std::pair<int, std::string>> extensions;
};

bool SetSerial(X509* certificate) {
  const std::string bytes = SecureRandomBytes(kSerialBytes);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): OpenSSL's
  // bytes
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const NumberPtr number(BN_bin2bn(data, kSerialBytes, nullptr));
  return number != nullptr &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) !=
             nullptr;
}

bool SetName(X509_NAME* name, const std::string& common_name) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): OpenSSL's
  // bytes
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.data());
  return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, text,
                                    static_cast<int>(common_name.size()), -1,
                                    0) == 1;
}

// A certificate of `key` for `subject`, signed by the issuer; issuer null: by
// itself.
absl::StatusOr<X509Ptr> Sign(const Subject& subject, EVP_PKEY* key,
                             X509* issuer, EVP_PKEY* issuer_key,
                             absl::Time now) {
  X509Ptr made(X509_new());
  X509* certificate = made.get();
  X509* signer = issuer == nullptr ? certificate : issuer;
  bool good =
      certificate != nullptr && X509_set_version(certificate, 2) == 1 &&
      SetSerial(certificate) &&
      SetName(X509_get_subject_name(certificate), subject.common_name) &&
      X509_set_issuer_name(certificate, X509_get_subject_name(signer)) == 1 &&
      ASN1_TIME_set(X509_getm_notBefore(certificate),
                    absl::ToTimeT(now - kBackdated)) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(certificate),
                    absl::ToTimeT(now + subject.lifetime)) != nullptr &&
      X509_set_pubkey(certificate, key) == 1;
  for (const auto& [nid, value] : subject.extensions) {
    good = good && AddExtension(certificate, signer, nid, value);
  }
  if (!good || X509_sign(certificate, issuer_key, EVP_sha256()) == 0) {
    return OpenSslFailed("cannot make a certificate");
  }
  return made;
}

// A key and the text of its certificate.
struct Signed {
  KeyPtr key;
  X509Ptr certificate;
};

absl::StatusOr<Signed> MakeAuthority(absl::Time now) {
  Signed made{.key = MakeKey()};
  if (made.key == nullptr) {
    return OpenSslFailed("cannot make a key");
  }
  QSWEEP_ASSIGN_OR_RETURN(
      made.certificate,
      Sign(
          {.common_name = "qsweep certificate authority",
           .lifetime = kAuthorityLifetime,
           .extensions = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                          {NID_key_usage, "critical,keyCertSign,cRLSign"},
                          {NID_subject_key_identifier, "hash"}}},
          made.key.get(), nullptr, made.key.get(), now));
  return made;
}

absl::StatusOr<Signed> MakeServer(const Signed& authority,
                                  const std::vector<std::string>& names,
                                  absl::Time now) {
  std::vector<std::string> alternatives = {
      absl::StrCat("DNS:", kCertificateName)};
  for (const std::string& name : names) {
    QSWEEP_ASSIGN_OR_RETURN(alternatives.emplace_back(), AlternativeName(name));
  }
  Signed made{.key = MakeKey()};
  if (made.key == nullptr) {
    return OpenSslFailed("cannot make a key");
  }
  QSWEEP_ASSIGN_OR_RETURN(
      made.certificate,
      Sign({.common_name = kCertificateName,
            .lifetime = kServerLifetime,
            .extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                           {NID_key_usage, "critical,digitalSignature"},
                           {NID_ext_key_usage, "serverAuth"},
                           {NID_subject_alt_name,
                            absl::StrJoin(alternatives, ",")},
                           {NID_authority_key_identifier, "keyid"}}},
           made.key.get(), authority.certificate.get(), authority.key.get(),
           now));
  return made;
}

absl::Status WriteServer(const std::string& folder, const Signed& authority,
                         const std::vector<std::string>& names,
                         absl::Time now) {
  QSWEEP_ASSIGN_OR_RETURN(const Signed server,
                          MakeServer(authority, names, now));
  return WritePrivateFile(
      ServerPath(folder),
      absl::StrCat(PemOf(server.key.get()), PemOf(server.certificate.get()),
                   PemOf(authority.certificate.get())));
}

// All files in a new folder, which then takes its place: a crash leaves all or
// nothing.
absl::Status MakeAll(const std::string& directory,
                     const std::vector<std::string>& names, absl::Time now) {
  const std::string part = Folder(directory) + ".part";
  std::error_code error;
  std::filesystem::remove_all(part, error);
  if (mkdir(part.c_str(), 0700) != 0) {
    return MakeError(kCannotWrite,
                     absl::StrCat("cannot make the directory ", part, ": ",
                                  std::generic_category().message(errno)),
                     part);
  }
  QSWEEP_ASSIGN_OR_RETURN(const Signed authority, MakeAuthority(now));
  QSWEEP_RETURN_IF_ERROR(
      WritePrivateFile(AuthorityKeyPath(part), PemOf(authority.key.get())));
  QSWEEP_RETURN_IF_ERROR(WritePrivateFile(AuthorityPath(part),
                                          PemOf(authority.certificate.get())));
  QSWEEP_RETURN_IF_ERROR(WriteServer(part, authority, names, now));
  std::filesystem::rename(part, Folder(directory), error);
  if (error) {
    return MakeError(kCannotWrite, error.message(), Folder(directory));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadNeeded(const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(std::optional<std::string> text,
                          ReadPrivateFile(path));
  if (!text.has_value()) {
    return BadFile(path, "there is no such file",
                   "restore it from a backup; or delete the folder, run "
                   "qcoordinator init again, and let everybody join again");
  }
  return *std::move(text);
}

absl::StatusOr<X509Ptr> ReadCertificate(const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string pem, ReadNeeded(path));
  X509Ptr certificate = CertificateIn(pem);
  if (certificate == nullptr) {
    return BadFile(path, "it holds no certificate");
  }
  return certificate;
}

absl::StatusOr<KeyPtr> ReadKey(const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string pem, ReadNeeded(path));
  KeyPtr key = KeyIn(pem);
  if (key == nullptr) {
    return BadFile(path, "it holds no private key");
  }
  return key;
}

absl::Time EndOf(X509* certificate) {
  std::tm end = {};
  ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end);
  return absl::FromTM(end, absl::UTCTimeZone());
}

absl::Status CheckNotExpired(const std::string& path, X509* certificate,
                             absl::string_view hint, absl::Time now) {
  const absl::Time end = EndOf(certificate);
  if (now < end) {
    return absl::OkStatus();
  }
  return MakeError(
      kCertificateExpired,
      absl::StrCat("the certificate in ", path, " expired at ",
                   absl::FormatTime("%Y-%m-%d", end, absl::UTCTimeZone())),
      path, hint);
}

absl::StatusOr<bool> Renew(const std::string& folder,
                           const std::vector<std::string>& names,
                           absl::Time now) {
  Signed authority;
  QSWEEP_ASSIGN_OR_RETURN(authority.key, ReadKey(AuthorityKeyPath(folder)));
  QSWEEP_ASSIGN_OR_RETURN(authority.certificate,
                          ReadCertificate(AuthorityPath(folder)));
  if (X509_check_private_key(authority.certificate.get(),
                             authority.key.get()) != 1) {
    return BadFile(AuthorityKeyPath(folder), "it is not the key of ca.pem");
  }
  QSWEEP_RETURN_IF_ERROR(WriteServer(folder, authority, names, now));
  return true;
}

}  // namespace

absl::StatusOr<bool> InitCertificates(const std::string& directory,
                                      const std::vector<std::string>& names,
                                      bool renew, absl::Time now) {
  const std::string folder = Folder(directory);
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    QSWEEP_RETURN_IF_ERROR(MakeAll(directory, names, now));
    return true;
  }
  if (renew || !std::filesystem::exists(ServerPath(folder), error)) {
    return Renew(folder, names, now);
  }
  return false;
}

std::string ServerCertificatePath(const std::string& directory) {
  return ServerPath(Folder(directory));
}

absl::StatusOr<std::optional<Certificates>> ReadCertificates(
    const std::string& directory, absl::Time now) {
  const std::string folder = Folder(directory);
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    return std::optional<Certificates>();
  }
  const std::string ca_path = AuthorityPath(folder);
  const std::string path = ServerPath(folder);
  QSWEEP_ASSIGN_OR_RETURN(const X509Ptr authority, ReadCertificate(ca_path));
  QSWEEP_ASSIGN_OR_RETURN(const X509Ptr server, ReadCertificate(path));
  QSWEEP_ASSIGN_OR_RETURN(const KeyPtr key, ReadKey(path));
  if (X509_check_private_key(server.get(), key.get()) != 1) {
    return BadFile(path, "its key is not its certificate's",
                   "qcoordinator init --dir DIR --renew");
  }
  if (X509_verify(server.get(), X509_get0_pubkey(authority.get())) != 1) {
    return BadFile(path, "ca.pem did not sign it",
                   "qcoordinator init --dir DIR --renew");
  }
  QSWEEP_RETURN_IF_ERROR(CheckNotExpired(
      ca_path, authority.get(),
      "delete the folder, run qcoordinator init again, and let everybody join "
      "again",
      now));
  QSWEEP_RETURN_IF_ERROR(CheckNotExpired(
      path, server.get(), "qcoordinator init --dir DIR --renew", now));
  Certificates certificates;
  certificates.ca_pem = PemOf(authority.get());
  certificates.chain_pem =
      absl::StrCat(PemOf(server.get()), certificates.ca_pem);
  certificates.key_pem = PemOf(key.get());
  QSWEEP_ASSIGN_OR_RETURN(certificates.ca_digest,
                          DigestOfCertificate(certificates.ca_pem));
  certificates.expires_at =
      std::min(EndOf(authority.get()), EndOf(server.get()));
  return std::optional<Certificates>(std::move(certificates));
}

}  // namespace qsweep
