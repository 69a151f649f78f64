// Debian's Abseil is not built for ThreadSanitizer, which therefore does not
// see what gRPC's locks order: everything handed from one of its threads to
// another looks like a race. This stands before Abseil's locks in the tests of
// that build and tells ThreadSanitizer about each.
#include <cstring>
#include <dlfcn.h>

#include "absl/synchronization/mutex.h"

extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);

namespace {

// Abseil's own definition of a member function that this file defines, too.
// Both have the same name, which the dynamic linker knows.
template <typename Function, typename Member>
Function Original(Member ours) {
  void* address = nullptr;
  std::memcpy(&address, &ours, sizeof(address));
  Dl_info info = {};
  void* original = nullptr;
  if (dladdr(address, &info) != 0 && info.dli_sname != nullptr) {
    original = dlsym(RTLD_NEXT, info.dli_sname);
  }
  if (original == nullptr) {
    __builtin_trap();  // somebody linked Abseil statically
  }
  return reinterpret_cast<Function>(original);
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto original = Original<void (*)(Mutex*)>(&Mutex::Lock);
  original(this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() {
  static const auto original = Original<bool (*)(Mutex*)>(&Mutex::TryLock);
  const bool locked = original(this);
  if (locked) {
    __tsan_acquire(this);
  }
  return locked;
}

void Mutex::Unlock() {
  static const auto original = Original<void (*)(Mutex*)>(&Mutex::Unlock);
  __tsan_release(this);
  original(this);
}

// The three waits let go of the lock and take it again.
void CondVar::Wait(Mutex* mutex) {
  static const auto original =
      Original<void (*)(CondVar*, Mutex*)>(&CondVar::Wait);
  __tsan_release(mutex);
  original(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto original =
      Original<bool (*)(CondVar*, Mutex*, Duration)>(&CondVar::WaitWithTimeout);
  __tsan_release(mutex);
  const bool timed_out = original(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto original =
      Original<bool (*)(CondVar*, Mutex*, Time)>(&CondVar::WaitWithDeadline);
  __tsan_release(mutex);
  const bool timed_out = original(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

ABSL_NAMESPACE_END
}  // namespace absl
