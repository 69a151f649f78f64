#include "worker/engine/state_store.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include <sys/mman.h>
#include <sys/statvfs.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

absl::Status NoRoom(const std::string& directory, size_t bytes,
                    absl::string_view why) {
  return MakeError(
      kOutOfMemory,
      absl::StrCat("States that do not fit into memory need a file of ", bytes,
                   " bytes in ", directory, ": ", why, "."),
      "--memory",
      "Make room there, set TMPDIR to a folder on a larger disk, or give the "
      "engine more memory.");
}

// A file without a name, all of whose room is taken.
absl::StatusOr<int> OpenFile(const std::string& directory, size_t bytes) {
  std::error_code error;
  fs::create_directories(directory, error);
  // Asked first: a file that fails for want of room would have filled the disk.
  const int64_t room = RoomIn(directory);
  if (static_cast<int64_t>(bytes) > room) {
    return NoRoom(directory, bytes,
                  absl::StrCat("there is room for ", room, " bytes"));
  }
  std::string path = absl::StrCat(directory, "/qsweep-states-XXXXXX");
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) {
    return NoRoom(directory, bytes, std::strerror(errno));
  }
  unlink(path.c_str());
  const int failed = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (failed != 0) {
    close(fd);
    return NoRoom(directory, bytes, std::strerror(failed));
  }
  return fd;
}

}  // namespace

int64_t RoomIn(const std::string& directory) {
  // Of the nearest folder that is there.
  std::error_code error;
  fs::path path = fs::absolute(directory, error);
  struct statvfs info = {};
  while (statvfs(path.c_str(), &info) != 0) {
    if (errno != ENOENT || path == path.parent_path()) {
      return 0;
    }
    path = path.parent_path();
  }
  return static_cast<int64_t>(info.f_bavail) *
         static_cast<int64_t>(info.f_frsize);
}

absl::StatusOr<StateStore> StateStore::Create(const std::vector<bool>& in_file,
                                              int64_t floats,
                                              const std::string& directory) {
  StateStore store(floats);
  store.memory_.resize(in_file.size());
  store.mapped_.resize(in_file.size());
  const size_t page = PageBytes();
  const size_t state_bytes =
      (static_cast<size_t>(floats) * sizeof(float) + page - 1) / page * page;
  const auto states = static_cast<size_t>(std::ranges::count(in_file, true));
  if (states == 0) {
    return store;
  }
  const size_t bytes = states * state_bytes;
  QSWEEP_ASSIGN_OR_RETURN(const int fd, OpenFile(directory, bytes));
  void* const address =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int error = errno;
  close(fd);
  if (address == MAP_FAILED) {
    return NoRoom(directory, bytes, std::strerror(error));
  }
  store.file_ = static_cast<char*>(address);
  store.file_bytes_ = bytes;
  char* next = store.file_;
  for (size_t state = 0; state < in_file.size(); ++state) {
    if (in_file[state]) {
      store.mapped_[state] = reinterpret_cast<float*>(next);
      next += state_bytes;
    }
  }
  return store;
}

StateStore::StateStore(StateStore&& other) noexcept
    : floats_(other.floats_),
      memory_(std::move(other.memory_)),
      mapped_(std::move(other.mapped_)),
      file_(std::exchange(other.file_, nullptr)),
      file_bytes_(std::exchange(other.file_bytes_, 0)) {}

StateStore::~StateStore() {
  if (file_ != nullptr) {
    munmap(file_, file_bytes_);
  }
}

float* StateStore::operator[](size_t state) {
  if (mapped_[state] != nullptr) {
    return mapped_[state];
  }
  kernels::FloatBuffer& buffer = memory_[state];
  if (buffer.size() == 0) {
    buffer = kernels::FloatBuffer(floats_);
  }
  return buffer.data();
}

void StateStore::WillNeed(const float* first, int64_t floats) const {
  Advise(first, floats, MADV_WILLNEED);
}

// Unmaps the pages: what they hold stays with the file.
void StateStore::Release(const float* first, int64_t floats) const {
  Advise(first, floats, MADV_DONTNEED);
}

void StateStore::Advise(const float* first, int64_t floats, int advice) const {
  const auto begin = reinterpret_cast<uintptr_t>(first);
  const auto mapping = reinterpret_cast<uintptr_t>(file_);
  if (file_ == nullptr || begin < mapping || begin >= mapping + file_bytes_) {
    return;
  }
  const uintptr_t page = PageBytes();
  const uintptr_t from = begin / page * page;
  const uintptr_t to =
      std::min(begin + static_cast<uintptr_t>(floats) * sizeof(float),
               mapping + file_bytes_);
  madvise(reinterpret_cast<void*>(from), to - from, advice);  // only a hint
}

}  // namespace qsweep
