#include "worker/model/weight_digest.h"

#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/model_cache.h"

namespace qsweep {

absl::StatusOr<Digest> CachedDigestOfFile(const std::string& path,
                                          const std::string& cache_dir,
                                          const Stopped& stopped) {
  if (cache_dir.empty()) {
    return DigestOfFile(path, stopped);
  }
  const std::string identity = IdentityOfFile(path);
  if (identity.empty()) {
    return MakeError(kModelNotFound, "the file has gone", path,
                     "Check the path.");
  }
  std::error_code error;
  const std::string absolute = std::filesystem::canonical(path, error).string();
  const std::string name =
      absl::StrCat("weights-", Digest::Of(absolute).hex().substr(0, 32));
  if (const auto hex = FindFact(cache_dir, name, identity)) {
    if (const auto digest = Digest::FromHex(*hex); digest.ok()) {
      return *digest;
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const Digest digest, DigestOfFile(path, stopped));
  // Only what did not change while it was read is remembered.
  if (IdentityOfFile(path) == identity) {
    KeepFact(cache_dir, name, identity, digest.hex());
  }
  return digest;
}

}  // namespace qsweep
