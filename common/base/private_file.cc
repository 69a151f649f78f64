#include "common/base/private_file.h"

#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

std::string ErrnoText(int error) {
  return std::generic_category().message(error);
}

// Closes when it goes.
struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) {
      close(value);
    }
  }
};

bool WriteAll(int descriptor, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return fsync(descriptor) == 0;
}

// Makes a rename in the folder survive a power cut.
bool SyncFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Descriptor descriptor{
      open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  return descriptor.value >= 0 && fsync(descriptor.value) == 0;
}

}  // namespace

absl::StatusOr<std::optional<std::string>> ReadPrivateFile(
    const std::string& path) {
  const auto refuse = [&path](absl::string_view why, absl::string_view hint) {
    return MakeError(kBadKeyFile,
                     absl::StrCat("cannot use '", path, "': ", why), path,
                     hint);
  };
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.value < 0) {
    if (errno == ENOENT) {
      return std::optional<std::string>();
    }
    return refuse(ErrnoText(errno), "make it readable for this user");
  }
  struct stat info = {};
  if (fstat(file.value, &info) != 0 || !S_ISREG(info.st_mode)) {
    return refuse("it is not a file", "");
  }
  if ((info.st_mode & 077) != 0) {
    return refuse("others may read it", absl::StrCat("chmod 600 ", path));
  }
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = read(file.value, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(got));
  }
  if (got < 0) {
    return refuse(ErrnoText(errno), "");
  }
  return std::optional<std::string>(std::move(text));
}

absl::Status WritePrivateFile(const std::string& path, absl::string_view text) {
  const std::string part = absl::StrCat(path, ".", getpid(), ".part");
  bool written = false;
  {
    const Descriptor file{
        open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    written = file.value >= 0 && WriteAll(file.value, text);
  }
  if (!written || rename(part.c_str(), path.c_str()) != 0 ||
      !SyncFolder(path)) {
    const int error = errno;
    unlink(part.c_str());
    return MakeError(
        kCannotWrite,
        absl::StrCat("cannot write '", path, "': ", ErrnoText(error)), path);
  }
  return absl::OkStatus();
}

}  // namespace qsweep
