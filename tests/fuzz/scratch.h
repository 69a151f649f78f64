#ifndef QSWEEP_TESTS_FUZZ_SCRATCH_H_
#define QSWEEP_TESTS_FUZZ_SCRATCH_H_

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <unistd.h>

#include "absl/strings/string_view.h"

#include "common/base/check.h"

namespace qsweep::fuzz {

// A folder below $TMPDIR, which deploy/fuzz.sh puts in memory: a target writes
// files thousands of times a second.
class Scratch {
 public:
  Scratch() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base == nullptr ? "/tmp" : base) + "/fuzz.XXXXXX";
    QSWEEP_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }
  // Removes what is in it.
  void Clear() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      std::filesystem::remove_all(entry.path());
    }
  }
  // Writes a file of the owner's alone over one that is there.
  std::string Write(const std::string& name, absl::string_view bytes) const {
    const std::string file = *this / name;
    const int fd =
        open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    QSWEEP_CHECK(fd >= 0);
    QSWEEP_CHECK(write(fd, bytes.data(), bytes.size()) ==
                 static_cast<ssize_t>(bytes.size()));
    close(fd);
    return file;
  }

 private:
  std::string path_;
};

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_SCRATCH_H_
