#ifndef QSWEEP_WORKER_AGENT_MODEL_LIST_H_
#define QSWEEP_WORKER_AGENT_MODEL_LIST_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "common/base/digest.h"

namespace qsweep {

// The models a worker has run, in a file of its folder: after a restart it can
// say which it still has on its disk. A line each, "DIGEST PATH", the newest
// last. What cannot be read or written is left out: it is a hint for placement.
// Single-thread.
class ModelList {
 public:
  // More are forgotten, the oldest first.
  static constexpr size_t kMost = 16;

  explicit ModelList(std::string file) : file_(std::move(file)) {}

  // Those whose path is still there, newest first.
  std::vector<Digest> Read() const;
  // The newest is this one.
  void Keep(const Digest& model, const std::string& path) const;

 private:
  const std::string file_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_MODEL_LIST_H_
