#ifndef QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_
#define QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_

#include <filesystem>
#include <stdlib.h>
#include <string>

#include "common/base/check.h"

namespace qsweep {

// A new folder that is gone with it. Its path is short: a unix socket's has at
// most 107 bytes.
class TempDir {
 public:
  TempDir() {
    std::string path =
        (std::filesystem::temp_directory_path() / "qsweep-XXXXXX").string();
    QSWEEP_CHECK(mkdtemp(path.data()) != nullptr);
    path_ = path;
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

 private:
  std::string path_;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_SUPPORT_TEMP_DIR_H_
