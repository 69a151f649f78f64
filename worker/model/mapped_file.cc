#include "worker/model/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

absl::Status CannotOpen(const std::string& path, absl::string_view reason) {
  return MakeError(kModelNotFound,
                   absl::StrCat("cannot open the file: ", reason), path,
                   "Check the path and that you may read the file.");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(
    const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return CannotOpen(path, std::strerror(errno));
  }
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return CannotOpen(path, "not a regular file");
  }
  const size_t size = static_cast<size_t>(info.st_size);
  void* address = nullptr;
  if (size > 0) {  // mmap refuses an empty range
    address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  const int error = errno;
  close(fd);
  if (address == MAP_FAILED) {
    return CannotOpen(path, std::strerror(error));
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, {static_cast<const uint8_t*>(address), size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) {
    munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
  }
}

}  // namespace qsweep
