#include "worker/engine/model_identity.h"

#include <filesystem>
#include <set>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "worker/model/model_cache.h"

namespace qsweep {

std::string IdentityOfModel(const std::string& path) {
  std::set<std::string> files = {path};
  std::error_code ignored;  // of what cannot be read, Checkpoint::Open tells
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) {
    files.insert(entry.path().string());
  }
  std::string identity;
  for (const std::string& file : files) {
    absl::StrAppend(&identity, file, " ", IdentityOfFile(file), "\n");
  }
  return identity;
}

}  // namespace qsweep
