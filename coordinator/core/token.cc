#include "coordinator/core/token.h"

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep {

std::string IdentityOfToken(TokenId id) {
  return absl::StrCat("token/", id.value());
}

absl::Status CheckValid(const Token& token, absl::Time now) {
  if (token.revoked_at != absl::InfiniteFuture()) {
    return MakeError(kTokenRevoked,
                     absl::StrCat("token ", token.id.value(), " was revoked"),
                     "token", "ask for a new one: qctl tokens create");
  }
  if (token.expires_at <= now) {
    return MakeError(
        kTokenExpired,
        absl::StrCat("token ", token.id.value(), " expired at ",
                     absl::FormatTime("%Y-%m-%d %H:%M UTC", token.expires_at,
                                      absl::UTCTimeZone())),
        "token", "ask for a new one: qctl tokens create");
  }
  return absl::OkStatus();
}

v1::Token ToProto(const Token& token) {
  const auto micros = [](absl::Time time) {
    return time == absl::InfiniteFuture() ? 0 : absl::ToUnixMicros(time);
  };
  v1::Token proto;
  proto.set_token_id(static_cast<uint64_t>(token.id.value()));
  proto.set_kind(token.kind);
  proto.set_role(token.role);
  proto.set_name(token.name);
  proto.set_reusable(token.reusable);
  proto.set_joined_with(static_cast<uint64_t>(token.joined_with.value()));
  proto.set_created_by(token.created_by);
  proto.set_created_at_us(micros(token.created_at));
  proto.set_expires_at_us(micros(token.expires_at));
  proto.set_revoked_at_us(micros(token.revoked_at));
  proto.set_uses(static_cast<uint64_t>(token.uses));
  if (token.lifetime != absl::InfiniteDuration()) {
    proto.set_lifetime_ms(
        static_cast<uint64_t>(absl::ToInt64Milliseconds(token.lifetime)));
  }
  return proto;
}

}  // namespace qsweep
