#ifndef QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_
#define QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_

#include <filesystem>
#include <fstream>
#include <stdlib.h>
#include <string>

#include "absl/strings/string_view.h"

#include "common/base/check.h"

namespace qsweep::testing {

// A fresh folder below /tmp, short enough for a unix socket path; removed with
// all it holds.
class TempDir {
 public:
  TempDir() {
    char pattern[] = "/tmp/qsweep_test.XXXXXX";
    path_ = mkdtemp(pattern);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

  // Writes a file in it, over one that is there, and returns its path.
  std::string Write(const std::string& name, absl::string_view content) const {
    const std::string file = path_ + "/" + name;
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    QSWEEP_CHECK(out.flush().good());
    return file;
  }

 private:
  std::string path_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_
