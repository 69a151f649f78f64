#include "worker/model/weight_digest.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

// What a cached digest is valid for: one line, compared as a whole.
absl::StatusOr<std::string> IdentityOf(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::canonical(path, error);
  struct stat info = {};
  if (error || stat(absolute.c_str(), &info) != 0) {
    return MakeError(kModelNotFound, "the file has gone", path,
                     "Check the path.");
  }
  return absl::StrCat(info.st_size, " ", info.st_mtim.tv_sec, ".",
                      info.st_mtim.tv_nsec, " ", info.st_dev, ":", info.st_ino,
                      " ", absolute.string());
}

std::optional<Digest> ReadEntry(const fs::path& entry,
                                const std::string& identity) {
  std::ifstream in(entry);
  std::string hex;
  std::string stored;
  if (!std::getline(in, hex) || !std::getline(in, stored) ||
      stored != identity) {
    return std::nullopt;
  }
  absl::StatusOr<Digest> digest = Digest::FromHex(hex);
  return digest.ok() ? std::optional<Digest>(*digest) : std::nullopt;
}

// Written beside and renamed, so that a reader never sees half an entry.
void WriteEntry(const fs::path& entry, const std::string& identity,
                const Digest& digest) {
  std::error_code error;
  fs::create_directories(entry.parent_path(), error);
  const fs::path temporary = absl::StrCat(entry.string(), ".", getpid());
  {
    std::ofstream out(temporary);
    out << digest.hex() << "\n" << identity << "\n";
    if (!out.flush()) {
      fs::remove(temporary, error);
      return;
    }
  }
  fs::rename(temporary, entry, error);
}

}  // namespace

absl::StatusOr<Digest> CachedDigestOfFile(const std::string& path,
                                          const std::string& cache_dir) {
  if (cache_dir.empty()) {
    return DigestOfFile(path);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string identity, IdentityOf(path));
  std::error_code error;
  const std::string absolute = fs::canonical(path, error).string();
  const fs::path entry =
      fs::path(cache_dir) /
      absl::StrCat("weights-", Digest::Of(absolute).hex().substr(0, 32));
  if (const std::optional<Digest> digest = ReadEntry(entry, identity)) {
    return *digest;
  }
  QSWEEP_ASSIGN_OR_RETURN(const Digest digest, DigestOfFile(path));
  // Only what did not change while it was read is remembered.
  QSWEEP_ASSIGN_OR_RETURN(const std::string after, IdentityOf(path));
  if (after == identity) {
    WriteEntry(entry, identity, digest);
  }
  return digest;
}

}  // namespace qsweep
