#include "worker/engine/model_identity.h"

#include <filesystem>
#include <set>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

namespace qsweep {

std::string IdentityOf(const std::string& path) {
  std::set<std::string> files = {path};
  std::error_code ignored;  // of what cannot be read, Checkpoint::Open tells
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) {
    files.insert(entry.path().string());
  }
  std::string identity;
  for (const std::string& file : files) {
    struct stat info = {};
    stat(file.c_str(), &info);
    absl::StrAppend(&identity, file, " ", info.st_ino, " ", info.st_size, " ",
                    info.st_mtim.tv_sec, " ", info.st_mtim.tv_nsec, "\n");
  }
  return identity;
}

}  // namespace qsweep
