#ifndef QSWEEP_WORKER_KERNELS_ALIGNED_ARRAY_H_
#define QSWEEP_WORKER_KERNELS_ALIGNED_ARRAY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

namespace qsweep::kernels {

// Numbers on cache lines of their own, not initialized: whoever fills a part
// also brings its pages into memory. Movable.
template <typename T>
class AlignedArray {
 public:
  static_assert(std::is_arithmetic_v<T>);

  AlignedArray() = default;
  explicit AlignedArray(int64_t size)
      : data_(static_cast<T*>(::operator new[](
            static_cast<size_t>(size) * sizeof(T), kAlignment))),
        size_(size) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* data) const { ::operator delete[](data, kAlignment); }
  };
  std::unique_ptr<T[], Free> data_;
  int64_t size_ = 0;
};

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_ALIGNED_ARRAY_H_
