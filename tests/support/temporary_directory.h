#ifndef QSWEEP_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
#define QSWEEP_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/string_view.h"

#include "common/base/check.h"

namespace qsweep::testing {

// A new folder that goes with its owner.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "qsweep-test-XXXXXX")
            .string();
    QSWEEP_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Writes a file in it and returns its path.
  std::string Write(const std::string& name, absl::string_view content) const {
    const std::string file = (path_ / name).string();
    std::ofstream out(file, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    QSWEEP_CHECK(out.flush().good());
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
