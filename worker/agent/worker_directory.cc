#include "worker/agent/worker_directory.h"

#include <cstdio>
#include <cstring>
#include <errno.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <unistd.h>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <sys/file.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr int kStartTicksField = 19;  // of /proc/PID/stat, after the name

absl::Status CannotWrite(const std::string& path, const char* why) {
  return MakeError(kCannotWrite, absl::StrCat("'", path, "': ", why), path,
                   "name a folder this user may write: --dir DIR");
}

std::optional<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return std::nullopt;
  }
  const std::string text((std::istreambuf_iterator<char>(file)),
                         std::istreambuf_iterator<char>());
  return std::string(absl::StripAsciiWhitespace(text));
}

// Replaces the file, so that a crash leaves the old or the new text.
absl::Status WriteText(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  const int fd =
      open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) {
    return CannotWrite(part, strerror(errno));
  }
  const std::string line = text + "\n";
  const bool written = write(fd, line.data(), line.size()) ==
                           static_cast<ssize_t>(line.size()) &&
                       fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (!written || std::rename(part.c_str(), path.c_str()) != 0) {
    return CannotWrite(path, strerror(written ? errno : error));
  }
  return absl::OkStatus();
}

std::string StartTicks() {
  const std::string stat = ReadText("/proc/self/stat").value_or("");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) {
    return "0";
  }
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 2), ' ');
  return fields.size() > kStartTicksField ? fields[kStartTicksField] : "0";
}

absl::StatusOr<WorkerUuid> ReadOrMakeUuid(const std::string& path) {
  if (const std::optional<std::string> text = ReadText(path)) {
    const auto uuid = WorkerUuid::FromText(*text);
    if (!uuid.ok()) {
      return MakeError(kCannotWrite, absl::StrCat("'", path, "' is not a UUID"),
                       path,
                       "delete the file to give the worker a new identity");
    }
    return *uuid;
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const WorkerUuid uuid,
      WorkerUuid::FromBytes(SecureRandomBytes(WorkerUuid::kSize)));
  QSWEEP_RETURN_IF_ERROR(WriteText(path, uuid.text()));
  return uuid;
}

absl::StatusOr<uint64_t> NextBootSeq(const std::string& path) {
  uint64_t seq = 0;
  if (const std::optional<std::string> text = ReadText(path)) {
    if (!absl::SimpleAtoi(*text, &seq)) {
      return MakeError(kCannotWrite,
                       absl::StrCat("'", path, "' is not a number"), path,
                       "delete the file and worker_uuid beside it");
    }
  }
  QSWEEP_RETURN_IF_ERROR(WriteText(path, absl::StrCat(seq + 1)));
  return seq + 1;
}

}  // namespace

absl::StatusOr<WorkerDirectory> WorkerDirectory::Open(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  std::filesystem::create_directories(absolute, error);
  if (error) {
    return CannotWrite(path, error.message().c_str());
  }
  const std::string folder = absolute.string();
  const std::string lock_path = folder + "/lock";
  const int lock = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) {
    return CannotWrite(lock_path, strerror(errno));
  }
  WorkerDirectory directory(folder, lock);
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    close(std::exchange(directory.lock_, -1));
    return MakeError(kDirectoryInUse,
                     absl::StrCat("another worker runs in '", folder, "'"),
                     folder, "give each worker a folder of its own: --dir DIR");
  }
  QSWEEP_ASSIGN_OR_RETURN(directory.worker_,
                          ReadOrMakeUuid(folder + "/worker_uuid"));
  QSWEEP_ASSIGN_OR_RETURN(directory.boot_seq_,
                          NextBootSeq(folder + "/boot_seq"));
  QSWEEP_ASSIGN_OR_RETURN(directory.boot_,
                          BootId::FromBytes(SecureRandomBytes(BootId::kSize)));
  QSWEEP_RETURN_IF_ERROR(WriteText(folder + "/worker.pid",
                                   absl::StrCat(getpid(), " ", StartTicks())));
  return directory;
}

absl::Status WorkerDirectory::KeepIdentity(const WorkerUuid& worker) const {
  return WriteText(path_ + "/worker_uuid", worker.text());
}

WorkerDirectory::WorkerDirectory(WorkerDirectory&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::exchange(other.lock_, -1)),
      worker_(other.worker_),
      boot_(other.boot_),
      boot_seq_(other.boot_seq_) {}

WorkerDirectory::~WorkerDirectory() {
  if (lock_ >= 0) {
    unlink((path_ + "/worker.pid").c_str());
    close(lock_);
  }
}

}  // namespace qsweep
