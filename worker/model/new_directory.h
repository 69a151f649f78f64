#ifndef QSWEEP_WORKER_MODEL_NEW_DIRECTORY_H_
#define QSWEEP_WORKER_MODEL_NEW_DIRECTORY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// A directory that appears under its name when it is complete, or never. Until
// then it is NAME.partial-XXXXXX, which the destructor removes; that of a
// process that was killed stays, and is nobody's. Single-thread.
class NewDirectory {
 public:
  // FAILED_PRECONDITION QS7002: something has this name, or nothing can be made
  // beside it.
  static absl::StatusOr<std::unique_ptr<NewDirectory>> Create(
      const std::string& target);
  ~NewDirectory();
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  // Where the files go until Commit.
  const std::string& path() const { return path_; }

  // Writes a file in it, to the disk. QS7002.
  absl::Status WriteFile(const std::string& name, absl::string_view content);

  // Gives it its name, durably. Files written by others must be on the disk.
  // QS7002, also when something took the name meanwhile: it stays as it is.
  absl::Status Commit();

 private:
  NewDirectory(std::string target, std::string path);

  const std::string target_;
  const std::string path_;
  bool committed_ = false;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_NEW_DIRECTORY_H_
