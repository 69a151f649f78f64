#include "worker/model/new_directory.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

absl::Status CannotWrite(const std::string& path, absl::string_view what) {
  return MakeError(kCannotWrite, what, path, "Give another name or folder.");
}

absl::Status FailedTo(const char* what, const std::string& path, int error) {
  return CannotWrite(path,
                     absl::StrCat("cannot ", what, ": ", std::strerror(error)));
}

bool SyncDirectory(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
  if (descriptor >= 0) {
    close(descriptor);
  }
  return synced;
}

}  // namespace

NewDirectory::NewDirectory(std::string target, std::string path)
    : target_(std::move(target)), path_(std::move(path)) {}

absl::StatusOr<std::unique_ptr<NewDirectory>> NewDirectory::Create(
    const std::string& target) {
  absl::string_view name = target;
  while (absl::ConsumeSuffix(&name, "/")) {
  }
  std::string own(name);
  if (own.empty()) {
    return CannotWrite(target, "this is no name of a new folder");
  }
  std::error_code error;
  const fs::file_type type = fs::symlink_status(own, error).type();
  if (type == fs::file_type::none) {
    return CannotWrite(own,
                       absl::StrCat("cannot look there: ", error.message()));
  }
  if (type != fs::file_type::not_found) {
    return CannotWrite(own, "the folder is there already");
  }
  std::string path = own + ".partial-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    return FailedTo("make the folder", own, errno);
  }
  // As any folder, not for its owner alone.
  const mode_t mask = umask(0);
  umask(mask);
  chmod(path.c_str(), 0777 & ~mask);
  return std::unique_ptr<NewDirectory>(
      new NewDirectory(std::move(own), std::move(path)));
}

NewDirectory::~NewDirectory() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
}

absl::Status NewDirectory::WriteFile(const std::string& name,
                                     absl::string_view content) {
  const std::string path = absl::StrCat(path_, "/", name);
  std::FILE* const file = std::fopen(path.c_str(), "wbx");
  if (file == nullptr) {
    return FailedTo("write the file", path, errno);
  }
  const bool written =
      std::fwrite(content.data(), 1, content.size(), file) == content.size() &&
      std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  const int error = errno;
  std::fclose(file);
  return written ? absl::OkStatus() : FailedTo("write the file", path, error);
}

absl::Status NewDirectory::Commit() {
  if (!SyncDirectory(path_)) {
    return FailedTo("write the folder", path_, errno);
  }
  // Plain rename would replace a folder that is empty.
  int renamed = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(),
                          RENAME_NOREPLACE);
  if (renamed != 0 && errno == EINVAL) {  // a file system without that
    renamed = std::rename(path_.c_str(), target_.c_str());
  }
  if (renamed != 0) {
    return FailedTo("give the folder its name", target_, errno);
  }
  committed_ = true;
  const fs::path parent = fs::path(target_).parent_path();
  if (!SyncDirectory(parent.empty() ? "." : parent.string())) {
    return FailedTo("write the folder", parent.string(), errno);
  }
  return absl::OkStatus();
}

}  // namespace qsweep
