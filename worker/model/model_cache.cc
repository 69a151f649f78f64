#include "worker/model/model_cache.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <sys/stat.h>

namespace qsweep {

namespace fs = std::filesystem;

std::string IdentityOfFile(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::canonical(path, error);
  struct stat info = {};
  if (error || stat(absolute.c_str(), &info) != 0) {
    return "";
  }
  return absl::StrCat(info.st_size, " ", info.st_mtim.tv_sec, ".",
                      info.st_mtim.tv_nsec, " ", info.st_dev, ":", info.st_ino,
                      " ", absolute.string());
}

std::optional<std::string> FindFact(const std::string& directory,
                                    const std::string& name,
                                    const std::string& key) {
  std::ifstream in(fs::path(directory) / name);
  std::string value;
  std::string stored;
  if (!std::getline(in, value) || !std::getline(in, stored) || stored != key) {
    return std::nullopt;
  }
  return value;
}

// Written beside and renamed, so that a reader never sees half an entry.
void KeepFact(const std::string& directory, const std::string& name,
              const std::string& key, const std::string& value) {
  std::error_code error;
  fs::create_directories(directory, error);
  const fs::path entry = fs::path(directory) / name;
  const fs::path temporary = absl::StrCat(entry.string(), ".", getpid());
  {
    std::ofstream out(temporary);
    out << value << "\n" << key << "\n";
    if (!out.flush()) {
      fs::remove(temporary, error);
      return;
    }
  }
  fs::rename(temporary, entry, error);
}

}  // namespace qsweep
