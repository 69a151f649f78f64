#include "coordinator/qctl/pending_submits.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep::qctl {
namespace {

// Makes what was written to a file or folder survive a power cut.
bool Sync(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) {
    close(fd);
  }
  return synced;
}

}  // namespace

PendingSubmits::PendingSubmits(const Environment& environment)
    : dir_(absl::StrCat(environment.StateDir(), "/submits")) {}

std::string PendingSubmits::PathOf(const Digest& digest) const {
  return absl::StrCat(dir_, "/", digest.hex());
}

std::optional<JobUuid> PendingSubmits::Find(const Digest& digest) const {
  std::ifstream file(PathOf(digest));
  std::string text;
  file >> text;
  const absl::StatusOr<JobUuid> uuid = JobUuid::FromText(text);
  return uuid.ok() ? std::make_optional(*uuid) : std::nullopt;
}

absl::Status PendingSubmits::Keep(const Digest& digest,
                                  const JobUuid& uuid) const {
  std::error_code error;
  std::filesystem::create_directories(dir_, error);
  const std::string path = PathOf(digest);
  const std::string part = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(part, std::ios::trunc);
    file << uuid.text() << "\n" << std::flush;
    if (!file) {
      return MakeError(kCannotWrite,
                       "cannot keep the job's id, which makes a submit safe to "
                       "repeat",
                       part, "set XDG_STATE_HOME to a folder you may write");
    }
  }
  if (!Sync(part) || rename(part.c_str(), path.c_str()) != 0 || !Sync(dir_)) {
    return MakeError(kCannotWrite, std::strerror(errno), path);
  }
  return absl::OkStatus();
}

void PendingSubmits::Forget(const Digest& digest) const {
  unlink(PathOf(digest).c_str());
}

}  // namespace qsweep::qctl
