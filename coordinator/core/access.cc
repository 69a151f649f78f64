#include "coordinator/core/access.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/role.h"

namespace qsweep {
namespace {

constexpr size_t kMaxNameBytes = 200;
// Longer than any token is wanted; far from the end of absl::Time.
constexpr uint64_t kMaxLifetimeMs = uint64_t{100} * 365 * 24 * 3600 * 1000;

absl::Status Wrong(absl::string_view field, absl::string_view message) {
  return MakeError(kBadValue, message, field);
}

absl::StatusOr<Digest> SecretDigest(const std::string& bytes) {
  const absl::StatusOr<Digest> digest = Digest::FromBytes(bytes);
  return digest.ok() ? digest
                     : Wrong("secret_sha256", digest.status().message());
}

absl::Status CheckName(const std::string& name) {
  return name.size() <= kMaxNameBytes
             ? absl::OkStatus()
             : Wrong("name", "a name has at most 200 bytes");
}

absl::StatusOr<absl::Duration> Lifetime(uint64_t ms, absl::string_view field) {
  if (ms > kMaxLifetimeMs) {
    return Wrong(field, "at most 100 years");
  }
  return ms == 0 ? absl::InfiniteDuration() : absl::Milliseconds(ms);
}

absl::StatusOr<Token> CheckCreate(const State& state, const std::string& actor,
                                  const v1::CreateTokenRequest& request,
                                  const Now& now) {
  Token token;
  QSWEEP_ASSIGN_OR_RETURN(token.secret, SecretDigest(request.secret_sha256()));
  if (RoleName(request.role()).empty()) {
    return Wrong("role", "the role is read, submit, worker or admin");
  }
  if (request.kind() != v1::TOKEN_KIND_ACCESS &&
      request.kind() != v1::TOKEN_KIND_JOIN) {
    return Wrong("kind", "no such kind of token");
  }
  if (request.kind() == v1::TOKEN_KIND_ACCESS &&
      (request.reusable() || request.lifetime_ms() != 0)) {
    return Wrong("kind", "only a join token has uses and what it gives");
  }
  QSWEEP_RETURN_IF_ERROR(CheckName(request.name()));
  QSWEEP_ASSIGN_OR_RETURN(const absl::Duration ttl,
                          Lifetime(request.ttl_ms(), "ttl_ms"));
  QSWEEP_ASSIGN_OR_RETURN(token.lifetime,
                          Lifetime(request.lifetime_ms(), "lifetime_ms"));
  token.id = state.next_token();
  token.kind = request.kind();
  token.role = request.role();
  token.name = request.name();
  token.reusable = request.reusable();
  token.created_by = actor;
  token.created_at = now.wall;
  token.expires_at = now.wall + ttl;
  return token;
}

// Whether a repeated request means this token.
bool IsSame(const Token& known, const Token& token) {
  return known.kind == token.kind && known.role == token.role &&
         known.name == token.name && known.reusable == token.reusable &&
         known.joined_with == token.joined_with;
}

AuditRecorded Audit(const Now& now, const std::string& actor,
                    absl::string_view action, const Token& token) {
  return {.time = now.wall,
          .actor = actor,
          .action = std::string(action),
          .subject = IdentityOfToken(token.id),
          .detail = absl::StrCat(RoleName(token.role),
                                 token.name.empty() ? "" : " ", token.name)};
}

absl::Status SecretTaken() {
  return Wrong("secret_sha256", "the secret is another token's");
}

// Of a token that is the subject of a call, not its credential.
absl::Status Ended(const absl::Status& why) {
  absl::Status status = absl::FailedPreconditionError(why.message());
  SetErrorInfo(status, {.code = GetErrorInfo(why)->code,
                        .field = "token_id",
                        .hint = "make a new one: qctl tokens create"});
  return status;
}

// Nothing: the identity is no token's.
std::optional<TokenId> TokenOfIdentity(absl::string_view identity) {
  int64_t id = 0;
  if (!absl::ConsumePrefix(&identity, "token/") ||
      !absl::SimpleAtoi(identity, &id)) {
    return std::nullopt;
  }
  return TokenId(id);
}

}  // namespace

std::string AuditActor(const std::string& identity) {
  return identity.empty() ? "socket" : identity;
}

Decision<v1::CreateTokenResponse> DecideCreateToken(
    const State& state, const std::string& actor,
    const v1::CreateTokenRequest& request, const Now& now) {
  absl::StatusOr<Token> token = CheckCreate(state, actor, request, now);
  if (!token.ok()) {
    return {.reply = token.status()};
  }
  v1::CreateTokenResponse response;
  if (const Token* known = state.FindTokenBySecret(token->secret)) {
    if (!IsSame(*known, *token)) {
      return {.reply = SecretTaken()};
    }
    *response.mutable_token() = ToProto(*known);
    return {.reply = response};
  }
  *response.mutable_token() = ToProto(*token);
  AuditRecorded audit = Audit(now, actor, "token_created", *token);
  return {.mutations = {TokenAdded{*std::move(token)}, std::move(audit)},
          .reply = response};
}

Decision<v1::JoinResponse> DecideJoin(const State& state, TokenId join_token,
                                      const v1::JoinRequest& request,
                                      const Now& now) {
  const Token* join = state.FindToken(join_token);
  if (join == nullptr || join->kind != v1::TOKEN_KIND_JOIN) {
    return {.reply = MakeError(kNotAuthenticated, "no such join token")};
  }
  if (absl::Status valid = CheckValid(*join, now.wall); !valid.ok()) {
    return {.reply = valid};
  }
  const absl::StatusOr<Digest> secret = SecretDigest(request.secret_sha256());
  if (!secret.ok()) {
    return {.reply = secret.status()};
  }
  if (absl::Status name = CheckName(request.name()); !name.ok()) {
    return {.reply = name};
  }
  v1::JoinResponse response;
  if (const Token* known = state.FindTokenBySecret(*secret)) {
    if (known->joined_with != join_token) {
      return {.reply = SecretTaken()};
    }
    *response.mutable_token() = ToProto(*known);
    return {.reply = response};
  }
  if (!join->reusable && join->uses > 0) {
    return {.reply = MakeError(
                kTokenUsed,
                absl::StrCat("join token ", join_token.value(), " was used"),
                "token", "ask for a new one: qctl tokens create")};
  }
  Token token{.id = state.next_token(),
              .secret = *secret,
              .kind = v1::TOKEN_KIND_ACCESS,
              .role = join->role,
              .name = request.name().empty() ? join->name : request.name(),
              .joined_with = join_token,
              .created_by = IdentityOfToken(join_token),
              .created_at = now.wall,
              .expires_at = now.wall + join->lifetime};
  *response.mutable_token() = ToProto(token);
  AuditRecorded audit = Audit(now, token.created_by, "joined", token);
  return {.mutations = {TokenAdded{std::move(token)}, std::move(audit)},
          .reply = response};
}

Decision<v1::RevokeTokenResponse> DecideRevokeToken(
    const State& state, const std::string& actor,
    const v1::RevokeTokenRequest& request, const Now& now) {
  const TokenId id(static_cast<int64_t>(request.token_id()));
  if (state.FindToken(id) == nullptr) {
    return {.reply = MakeError(kTokenNotFound,
                               absl::StrCat("no token ", request.token_id()),
                               "token_id", "see qctl tokens list")};
  }
  Decision<v1::RevokeTokenResponse> decision{.reply =
                                                 v1::RevokeTokenResponse()};
  for (const auto& [other, token] : state.tokens()) {
    const bool meant =
        other == id || (request.joined_too() && token.joined_with == id);
    if (!meant || token.revoked_at != absl::InfiniteFuture()) {
      continue;
    }
    decision.mutations.push_back(
        TokenRevoked{.token = other, .revoked_at = now.wall});
    decision.mutations.push_back(Audit(now, actor, "token_revoked", token));
    v1::Token* revoked = decision.reply->add_revoked();
    *revoked = ToProto(token);
    revoked->set_revoked_at_us(absl::ToUnixMicros(now.wall));
  }
  return decision;
}

Decision<v1::RotateTokenResponse> DecideRotateToken(
    const State& state, const std::string& actor,
    const v1::RotateTokenRequest& request, const Now& now) {
  const Token* token =
      state.FindToken(TokenId(static_cast<int64_t>(request.token_id())));
  if (token == nullptr) {
    return {.reply = MakeError(kTokenNotFound,
                               absl::StrCat("no token ", request.token_id()),
                               "token_id", "see qctl tokens list")};
  }
  if (token->kind != v1::TOKEN_KIND_ACCESS) {
    return {.reply =
                MakeError(kBadValue, "a join token keeps its secret",
                          "token_id", "make a new one: qctl tokens create")};
  }
  if (absl::Status valid = CheckValid(*token, now.wall); !valid.ok()) {
    return {.reply = Ended(valid)};
  }
  const absl::StatusOr<Digest> secret = SecretDigest(request.secret_sha256());
  if (!secret.ok()) {
    return {.reply = secret.status()};
  }
  v1::RotateTokenResponse response;
  *response.mutable_token() = ToProto(*token);
  if (const Token* known = state.FindTokenBySecret(*secret)) {
    if (known != token) {
      return {.reply = SecretTaken()};
    }
    return {.reply = response};
  }
  return {.mutations = {TokenRotated{.token = token->id, .secret = *secret},
                        Audit(now, actor, "token_rotated", *token)},
          .reply = response};
}

v1::ListTokensResponse ListTokens(const State& state) {
  v1::ListTokensResponse response;
  for (const auto& [id, token] : state.tokens()) {
    *response.add_tokens() = ToProto(token);
  }
  return response;
}

const Token* FindTokenOf(const State& state, absl::string_view identity) {
  const auto id = TokenOfIdentity(identity);
  return id ? state.FindToken(*id) : nullptr;
}

absl::Status CheckIdentity(const State& state, const std::string& identity,
                           const Digest& secret, const Now& now) {
  const auto id = TokenOfIdentity(identity);
  if (!id) {
    return absl::OkStatus();
  }
  const Token* token = state.FindToken(*id);
  if (token == nullptr) {
    return MakeError(kNotAuthenticated, "no such token");
  }
  QSWEEP_RETURN_IF_ERROR(CheckValid(*token, now.wall));
  return secret.empty() || token->secret == secret
             ? absl::OkStatus()
             : MakeError(kNotAuthenticated, "the token has another secret now",
                         "token", "use the new one");
}

}  // namespace qsweep
