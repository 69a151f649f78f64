#include "common/rpc/credential.h"

#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/private_file.h"
#include "common/base/status_macros.h"
#include "common/rpc/coordinator_client.h"
#include "common/rpc/tls_peer.h"

namespace qsweep {
namespace {

constexpr char kHead[] = "qsweep-credential 1\n";
constexpr absl::Duration kJoinTimeout = absl::Seconds(10);

std::string Format(const Credential& credential) {
  return absl::StrCat(kHead, "address ", credential.address, "\njoin ",
                      credential.joined_with.value(), "\ntoken ",
                      credential.token, "\n", credential.ca_pem);
}

// Takes "key value\n" off the text.
bool TakeLine(absl::string_view& text, absl::string_view key,
              std::string& value) {
  const size_t end = text.find('\n');
  absl::string_view line = text.substr(0, end);
  if (end == absl::string_view::npos || !absl::ConsumePrefix(&line, key) ||
      !absl::ConsumePrefix(&line, " ") || line.empty()) {
    return false;
  }
  value = std::string(line);
  text.remove_prefix(end + 1);
  return true;
}

std::optional<Credential> Parse(absl::string_view text) {
  Credential credential;
  std::string join;
  int64_t join_number = 0;
  if (!absl::ConsumePrefix(&text, kHead) ||
      !TakeLine(text, "address", credential.address) ||
      !TakeLine(text, "join", join) ||
      !TakeLine(text, "token", credential.token) ||
      !absl::SimpleAtoi(join, &join_number) ||
      !ParseAccessToken(credential.token).ok() ||
      !DigestOfCertificate(std::string(text)).ok()) {
    return std::nullopt;
  }
  credential.joined_with = TokenId(join_number);
  credential.ca_pem = std::string(text);
  return credential;
}

// The secret of the credential that is on its way: "JOIN SECRET". One of
// another join token is of no use.
absl::StatusOr<Secret> ReadOrMakePending(const std::string& path,
                                         TokenId join_token) {
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                          ReadPrivateFile(path));
  if (text.has_value()) {
    absl::string_view rest = absl::StripSuffix(*text, "\n");
    if (absl::ConsumePrefix(&rest, absl::StrCat(join_token.value(), " "))) {
      if (auto secret = Secret::FromHex(rest); secret.ok()) {
        return secret;
      }
    }
  }
  Secret secret = Secret::Make();
  QSWEEP_RETURN_IF_ERROR(WritePrivateFile(
      path, absl::StrCat(join_token.value(), " ", secret.hex(), "\n")));
  return secret;
}

}  // namespace

Endpoint Credential::endpoint() const {
  return {.address = address, .token = token, .ca_pem = ca_pem};
}

absl::StatusOr<std::optional<Credential>> ReadCredential(
    const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                          ReadPrivateFile(path));
  if (!text.has_value()) {
    return std::optional<Credential>();
  }
  std::optional<Credential> credential = Parse(*text);
  if (!credential.has_value()) {
    return MakeError(kBadKeyFile,
                     absl::StrCat("'", path, "' is not a credential"), path,
                     "delete it and join again with a new token");
  }
  return credential;
}

absl::Status WriteCredential(const std::string& path,
                             const Credential& credential) {
  return WritePrivateFile(path, Format(credential));
}

absl::StatusOr<Credential> JoinCoordinator(const std::string& address,
                                           const JoinTokenText& token,
                                           const std::string& name,
                                           const std::string& path) {
  Credential credential{.address = address, .joined_with = token.id};
  QSWEEP_ASSIGN_OR_RETURN(
      credential.ca_pem,
      FetchCertificateAuthority(address, token.ca, kJoinTimeout));
  const std::string pending_path = path + ".new";
  QSWEEP_ASSIGN_OR_RETURN(const Secret secret,
                          ReadOrMakePending(pending_path, token.id));
  // This channel trusts only that authority: a server that merely shows it
  // fails here, and the token is not sent.
  CoordinatorClient client({.address = address,
                            .token = FormatToken(AccessTokenText{
                                .id = token.id, .secret = token.secret}),
                            .ca_pem = credential.ca_pem});
  v1::JoinRequest request;
  request.set_secret_sha256(secret.digest().bytes());
  request.set_name(name);
  QSWEEP_ASSIGN_OR_RETURN(const v1::JoinResponse response,
                          client.Join(request));
  credential.token = FormatToken(AccessTokenText{
      .id = TokenId(static_cast<int64_t>(response.token().token_id())),
      .secret = secret});
  QSWEEP_RETURN_IF_ERROR(WriteCredential(path, credential));
  unlink(pending_path.c_str());
  return credential;
}

}  // namespace qsweep
