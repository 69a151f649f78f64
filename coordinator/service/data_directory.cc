#include "coordinator/service/data_directory.h"

#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/token_text.h"
#include "common/rpc/channel.h"

namespace qsweep {
absl::Status MakeDataDirectory(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::OkStatus();
  }
  if (mkdir(path.c_str(), 0700) != 0) {
    return MakeError(kCannotWrite,
                     absl::StrCat("cannot make the directory ", path, ": ",
                                  std::generic_category().message(errno)),
                     path, "give another --dir, or make its parent folder");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadOrMakeToken(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/token");
  const int descriptor =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    if (errno == EEXIST) {
      return ReadTokenFile(path);
    }
    return MakeError(kCannotWrite,
                     absl::StrCat("cannot write ", path, ": ",
                                  std::generic_category().message(errno)),
                     path);
  }
  const std::string token = absl::StrCat("qsw-local-", Secret::Make().hex());
  const std::string line = token + "\n";
  const bool written = write(descriptor, line.data(), line.size()) ==
                       static_cast<ssize_t>(line.size());
  close(descriptor);
  if (!written) {
    unlink(path.c_str());
    return MakeError(kCannotWrite, absl::StrCat("cannot write ", path), path);
  }
  return token;
}

}  // namespace qsweep
