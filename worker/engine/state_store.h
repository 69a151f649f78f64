#ifndef QSWEEP_WORKER_ENGINE_STATE_STORE_H_
#define QSWEEP_WORKER_ENGINE_STATE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "worker/kernels/row_kernels.h"

namespace qsweep {

// Free bytes where `directory` is, or would be made; 0: it cannot be told.
int64_t RoomIn(const std::string& directory);

// The hidden states of a pass, all of one size, zero at first: some in memory,
// the others in a file that is mapped, so that they take no anonymous memory
// and the system writes out what it has no room for. The file has no name and
// is gone with the store, or with the process. Movable. Which thread may use a
// state is the caller's business.
class StateStore {
 public:
  // in_file: per state. floats: of a state. directory: made if it is missing,
  // used if any state is in the file. All of the file's room is taken now.
  // RESOURCE_EXHAUSTED QS5006: there is not so much, or the directory cannot be
  // written to; the text names it and the bytes.
  static absl::StatusOr<StateStore> Create(const std::vector<bool>& in_file,
                                           int64_t floats,
                                           const std::string& directory);
  StateStore(StateStore&& other) noexcept;
  StateStore& operator=(StateStore&&) = delete;
  ~StateStore();

  // A state's values; takes its memory when it is first asked for: then from
  // one thread alone.
  float* operator[](size_t state);

  // Values that are read soon, and values that are not used for long: hints,
  // from any thread. Nothing happens for states in memory.
  void WillNeed(const float* first, int64_t floats) const;
  void Release(const float* first, int64_t floats) const;

 private:
  explicit StateStore(int64_t floats) : floats_(floats) {}

  void Advise(const float* first, int64_t floats, int advice) const;

  const int64_t floats_;
  std::vector<kernels::FloatBuffer> memory_;  // per state
  std::vector<float*> mapped_;                // per state; null: in memory
  char* file_ = nullptr;                      // the mapping
  size_t file_bytes_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_STATE_STORE_H_
