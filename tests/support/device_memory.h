#ifndef QSWEEP_TESTS_SUPPORT_DEVICE_MEMORY_H_
#define QSWEEP_TESTS_SUPPORT_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

// Where kernel tests run: a CUDA device (cuda_device.cc) or the host emulation
// (cuda_emulation.cc), by what the test links.
namespace qsweep::testing {

// Why kernels cannot run here, for a test to skip; empty where they can.
std::string WhyNoDevice();

// Waits for all launches. What went wrong since the last call, or empty.
std::string DeviceProblem();

void* DeviceAllocate(size_t bytes);  // at a multiple of 256; ends the test
                                     // program when there is no memory
void DeviceFree(void* memory);
void CopyToDevice(void* to, const void* from, size_t bytes);
void CopyFromDevice(void* to, const void* from, size_t bytes);

// Numbers in device memory, `shift` elements behind a 256-byte boundary.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values, size_t shift = 0)
      : memory_(DeviceAllocate((values.size() + shift) * sizeof(T))),
        shift_(shift),
        size_(values.size()) {
    CopyToDevice(data(), values.data(), size_ * sizeof(T));
  }
  // Filled with bytes that no kernel writes.
  explicit DeviceArray(size_t size, size_t shift = 0)
      : DeviceArray(Unwritten(size), shift) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { DeviceFree(memory_); }

  T* data() { return static_cast<T*>(memory_) + shift_; }
  std::vector<T> Read() {
    std::vector<T> values(size_);
    CopyFromDevice(values.data(), data(), size_ * sizeof(T));
    return values;
  }

 private:
  static std::vector<T> Unwritten(size_t size) {
    std::vector<T> values(size);
    std::memset(static_cast<void*>(values.data()), 0xa5, size * sizeof(T));
    return values;
  }

  void* memory_;
  size_t shift_;
  size_t size_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_DEVICE_MEMORY_H_
