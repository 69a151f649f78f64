#include "coordinator/service/authenticator.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <grpcpp/server_context.h>

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

// Takes as long for a wrong first byte as for a wrong last one.
bool EqualInConstantTime(absl::string_view a, absl::string_view b) {
  if (a.size() != b.size()) {
    return false;
  }
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^
                  static_cast<unsigned>(static_cast<unsigned char>(b[i]));
  }
  return difference == 0;
}

}  // namespace

// The identity is stored with leases: a digest, so that the database holds no
// secret.
Authenticator::Authenticator(const std::string& token)
    : expected_(absl::StrCat("Bearer ", token)),
      identity_(Digest::Of(token).hex().substr(0, 16)) {}

absl::StatusOr<Caller> Authenticator::Authenticate(
    const grpc::ServerContextBase& context) const {
  if (absl::StartsWith(context.peer(), "unix:")) {
    return Caller{};
  }
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end() ||
      !EqualInConstantTime(
          absl::string_view(found->second.data(), found->second.size()),
          expected_)) {
    return MakeError(kNotAuthenticated,
                     found == metadata.end()
                         ? "the call has no token"
                         : "the token is not this coordinator's",
                     "", "use the token in the coordinator's DIR/token");
  }
  return Caller{identity_};
}

}  // namespace qsweep
