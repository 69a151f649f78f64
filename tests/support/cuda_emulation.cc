// The words of worker/kernels/launch.h on the host. Each thread of a block is a
// fiber that runs until it meets others at a shuffle or a barrier; blocks run
// one after the other, every second one with its lanes backwards, so that a
// result that needs an order shows. What CUDA leaves undefined ends the launch:
// a lane missing at a shuffle, a thread missing at a barrier, memory that is
// not a DeviceArray's, a misaligned access.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <setjmp.h>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "tests/support/device_memory.h"
#include "worker/kernels/launch.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace qsweep::kernels {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;
constexpr int kMaxThreads = 1024;
constexpr int kMaxShuffleBytes = 32;
constexpr int kAnyLane = 0;  // in place of a mask: each lane chooses

enum class State { kReady, kAtShuffle, kAtBarrier, kDone };

// Where a stack was left.
struct Place {
  ucontext_t context;
  jmp_buf jump;
  bool can_jump = false;
};

// Leaves one stack for another; returns when something switches back. Of the
// standard library only setjmp and longjmp do it without a system call, but
// AddressSanitizer takes a longjmp for the end of what it leaves.
__attribute__((noinline)) void Switch(Place& from, Place& to) {
#if defined(__SANITIZE_ADDRESS__)
  swapcontext(&from.context, &to.context);
#else
  from.can_jump = true;
  if (_setjmp(from.jump) == 0) {
    if (to.can_jump) {
      _longjmp(to.jump, 1);
    }
    setcontext(&to.context);
  }
#endif
}

// A thread of the running block.
struct Fiber {
  std::unique_ptr<char[]> stack;
  Place place;
  bool started = false;
  State state = State::kDone;
  void* value = nullptr;  // at a shuffle, on the fiber's own stack
  int size = 0;
  int lane_mask = 0;           // the same for the whole warp
  int from = 0;                // which lane
  void* fake_stack = nullptr;  // AddressSanitizer's
};

// Tells AddressSanitizer that the stack changes.
class StackSwitch {
 public:
#if defined(__SANITIZE_ADDRESS__)
  static void Start(void** fake_stack, const void* bottom, size_t size) {
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
  }
  static void Finish(void* fake_stack, const void** bottom, size_t* size) {
    __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
  }
#else
  static void Start(void**, const void*, size_t) {}
  static void Finish(void*, const void**, size_t*) {}
#endif
};

struct MemoryRange {
  uintptr_t begin;
  uintptr_t end;
};

struct SharedSlot {
  const char* file;
  int line;
  std::unique_ptr<char[]> memory;
  int64_t size;
  int64_t block_serial;  // of the block that wrote it last
};

class Emulator {
 public:
  int RunGrid(Grid grid, void (*body)(const void*), const void* context);

  int thread_index() const { return current_; }
  int block_threads() const { return grid_.threads; }
  int64_t block_index() const { return block_; }
  int64_t num_blocks() const { return grid_.blocks; }

  // Called on fibers.
  void Wait(State state);
  void WaitAtShuffle(void* value, int size, int lane_mask, int from);
  void* SharedMemory(const char* file, int line, int64_t size);
  void CheckAccess(const void* address, size_t size, size_t alignment);

  void* Allocate(size_t bytes);
  void Free(void* memory);
  std::string TakeProblem() { return std::exchange(problem_, ""); }

 private:
  static void FiberMain();
  bool RunBlock();
  bool RunWarp(int first, bool backwards);
  bool Exchange(int first);
  void Resume(int thread);
  void Fail(const std::string& problem);

  Grid grid_;
  void (*body_)(const void*) = nullptr;
  const void* context_ = nullptr;
  int64_t block_ = 0;
  int64_t block_serial_ = 0;
  int current_ = 0;
  bool failed_ = false;
  std::string problem_;
  std::vector<Fiber> fibers_ = std::vector<Fiber>(kMaxThreads);
  Place scheduler_;
  void* scheduler_fake_stack_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_size_ = 0;
  std::vector<SharedSlot> shared_;
  std::vector<MemoryRange> memory_;
  size_t last_range_ = 0;
};

Emulator emulator;  // kernels have no argument that could carry it

void Emulator::Fail(const std::string& problem) {
  failed_ = true;
  if (problem_.empty()) {
    problem_ = "block " + std::to_string(block_) + ", thread " +
               std::to_string(current_) + ": " + problem;
  }
}

int Emulator::RunGrid(Grid grid, void (*body)(const void*),
                      const void* context) {
  grid_ = grid;
  body_ = body;
  context_ = context;
  failed_ = false;
  block_ = 0;
  if (grid.blocks < 1 || grid.blocks > INT32_MAX || grid.threads < 1 ||
      grid.threads > kMaxThreads || grid.threads % kWarpThreads != 0) {
    Fail("a grid that cannot be launched");
    return 1;
  }
  for (block_ = 0; block_ < grid.blocks; ++block_) {
    if (!RunBlock()) {
      for (Fiber& fiber : fibers_) {
        fiber.started = false;  // some wait in the middle of the kernel
      }
      return 1;
    }
  }
  return 0;
}

bool Emulator::RunBlock() {
  ++block_serial_;
  const bool backwards = block_serial_ % 2 == 0;
  for (int i = 0; i < grid_.threads; ++i) {
    fibers_[static_cast<size_t>(i)].state = State::kReady;
  }
  while (true) {
    for (int i = 0; i < grid_.threads; i += kWarpThreads) {
      const int first = backwards ? grid_.threads - kWarpThreads - i : i;
      if (!RunWarp(first, backwards)) {
        return false;
      }
    }
    int at_barrier = 0;
    for (int i = 0; i < grid_.threads; ++i) {
      Fiber& fiber = fibers_[static_cast<size_t>(i)];
      if (fiber.state == State::kAtBarrier) {
        fiber.state = State::kReady;
        ++at_barrier;
      }
    }
    if (at_barrier == 0) {
      return true;
    }
    if (at_barrier != grid_.threads) {
      Fail("a thread is missing at a barrier");
      return false;
    }
  }
}

// Runs a warp until all its lanes are done or at a barrier.
bool Emulator::RunWarp(int first, bool backwards) {
  while (true) {
    bool at_shuffle = false;
    for (int i = 0; i < kWarpThreads; ++i) {
      const int thread = first + (backwards ? kWarpThreads - 1 - i : i);
      if (fibers_[static_cast<size_t>(thread)].state == State::kReady) {
        Resume(thread);
      }
      at_shuffle |=
          fibers_[static_cast<size_t>(thread)].state == State::kAtShuffle;
    }
    if (failed_) {
      return false;
    }
    if (!at_shuffle) {
      return true;
    }
    if (!Exchange(first)) {
      return false;
    }
  }
}

bool Emulator::Exchange(int first) {
  std::array<std::array<char, kMaxShuffleBytes>, kWarpThreads> values;
  const Fiber& leader = fibers_[static_cast<size_t>(first)];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    current_ = first + lane;
    const Fiber& fiber = fibers_[static_cast<size_t>(current_)];
    if (fiber.state != State::kAtShuffle) {
      Fail("a lane is missing at a shuffle");
      return false;
    }
    if (fiber.size != leader.size || fiber.lane_mask != leader.lane_mask ||
        fiber.from < 0 || fiber.from >= kWarpThreads ||
        fiber.size > kMaxShuffleBytes) {
      Fail("the lanes disagree about a shuffle");
      return false;
    }
    std::memcpy(values[static_cast<size_t>(lane)].data(), fiber.value,
                static_cast<size_t>(fiber.size));
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    Fiber& fiber = fibers_[static_cast<size_t>(first + lane)];
    std::memcpy(fiber.value, values[static_cast<size_t>(fiber.from)].data(),
                static_cast<size_t>(fiber.size));
    fiber.state = State::kReady;
  }
  return true;
}

void Emulator::FiberMain() {
  StackSwitch::Finish(nullptr, &emulator.scheduler_stack_,
                      &emulator.scheduler_stack_size_);
  while (true) {
    emulator.body_(emulator.context_);
    emulator.Wait(State::kDone);
  }
}

// Lets a thread go on until it waits.
void Emulator::Resume(int thread) {
  current_ = thread;
  Fiber& fiber = fibers_[static_cast<size_t>(thread)];
  if (!fiber.started) {
    fiber.started = true;
    if (fiber.stack == nullptr) {
      fiber.stack = std::make_unique<char[]>(kStackBytes);
    }
    fiber.place.can_jump = false;
    getcontext(&fiber.place.context);
    fiber.place.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.place.context.uc_stack.ss_size = kStackBytes;
    fiber.place.context.uc_link = nullptr;
    makecontext(&fiber.place.context, &Emulator::FiberMain, 0);
  }
  StackSwitch::Start(&scheduler_fake_stack_, fiber.stack.get(), kStackBytes);
  Switch(scheduler_, fiber.place);
  StackSwitch::Finish(scheduler_fake_stack_, nullptr, nullptr);
}

void Emulator::Wait(State state) {
  Fiber& fiber = fibers_[static_cast<size_t>(current_)];
  fiber.state = state;
  StackSwitch::Start(&fiber.fake_stack, scheduler_stack_,
                     scheduler_stack_size_);
  Switch(fiber.place, scheduler_);
  StackSwitch::Finish(fiber.fake_stack, &scheduler_stack_,
                      &scheduler_stack_size_);
}

void Emulator::WaitAtShuffle(void* value, int size, int lane_mask, int from) {
  Fiber& fiber = fibers_[static_cast<size_t>(current_)];
  fiber.value = value;
  fiber.size = size;
  fiber.lane_mask = lane_mask;
  fiber.from = from;
  Wait(State::kAtShuffle);
}

// Every block finds NaNs in it, as a reminder that shared memory starts
// undefined.
void* Emulator::SharedMemory(const char* file, int line, int64_t size) {
  auto slot = std::find_if(shared_.begin(), shared_.end(), [&](const auto& s) {
    return s.file == file && s.line == line && s.size == size;
  });
  if (slot == shared_.end()) {
    shared_.push_back({file, line,
                       std::make_unique<char[]>(static_cast<size_t>(size)),
                       size, 0});
    slot = shared_.end() - 1;
  }
  if (slot->block_serial != block_serial_) {
    slot->block_serial = block_serial_;
    std::memset(slot->memory.get(), 0xff, static_cast<size_t>(size));
  }
  return slot->memory.get();
}

void Emulator::CheckAccess(const void* address, size_t size, size_t alignment) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const auto holds = [&](const MemoryRange& range) {
    return begin >= range.begin && begin + size <= range.end;
  };
  if (begin % alignment != 0) {
    Fail("a misaligned access");
  } else if (last_range_ >= memory_.size() || !holds(memory_[last_range_])) {
    const auto found = std::find_if(memory_.begin(), memory_.end(), holds);
    if (found == memory_.end()) {
      Fail("an access out of range");
    } else {
      last_range_ = static_cast<size_t>(found - memory_.begin());
    }
  }
  if (failed_) {
    Wait(State::kDone);  // for good
  }
}

constexpr std::align_val_t kAlignment{256};

void* Emulator::Allocate(size_t bytes) {
  void* const memory = ::operator new(std::max<size_t>(bytes, 1), kAlignment);
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  memory_.push_back({begin, begin + bytes});
  return memory;
}

void Emulator::Free(void* memory) {
  std::erase_if(memory_, [&](const MemoryRange& range) {
    return range.begin == reinterpret_cast<uintptr_t>(memory);
  });
  ::operator delete(memory, kAlignment);
}

}  // namespace

namespace emulation {

int RunGrid(Grid grid, void (*body)(const void*), const void* context) {
  return emulator.RunGrid(grid, body, context);
}
void* SharedMemory(const char* file, int line, int64_t size) {
  return emulator.SharedMemory(file, line, size);
}
void CheckAccess(const void* address, size_t size, size_t alignment) {
  emulator.CheckAccess(address, size, alignment);
}
void ExchangeXor(void* value, int size, int lane_mask) {
  const int lane = emulator.thread_index() % kWarpThreads;
  emulator.WaitAtShuffle(value, size, lane_mask, lane ^ lane_mask);
}
void ExchangeFrom(void* value, int size, int from) {
  emulator.WaitAtShuffle(value, size, kAnyLane, from);
}

}  // namespace emulation

int ThreadIndex() { return emulator.thread_index(); }
int BlockThreads() { return emulator.block_threads(); }
int64_t BlockIndex() { return emulator.block_index(); }
int64_t NumBlocks() { return emulator.num_blocks(); }
void SyncBlock() { emulator.Wait(State::kAtBarrier); }

float FloatOfHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  uint32_t magnitude = 0;
  if (exponent == 31) {
    magnitude = 0x7f800000u | static_cast<uint32_t>(fraction) << 13;
  } else if (exponent > 0) {
    magnitude = static_cast<uint32_t>(exponent + 112) << 23 |
                static_cast<uint32_t>(fraction) << 13;
  } else {
    magnitude = BitsOf(static_cast<float>(fraction) * 0x1p-24f);
  }
  return FloatOf(magnitude | static_cast<uint32_t>(bits & 0x8000) << 16);
}

uint16_t HalfOf(float x) {
  const uint32_t magnitude = BitsOf(x) & 0x7fffffffu;
  const uint32_t sign = BitsOf(x) >> 16 & 0x8000u;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    return 0x7fff;  // as the instruction does
  }
  if (magnitude >= 0x47800000u) {
    half = 0x7c00;
  } else if (magnitude >= 0x38800000u) {
    half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  } else {
    half = static_cast<uint32_t>(std::nearbyint(FloatOf(magnitude) * 0x1p24f));
  }
  return static_cast<uint16_t>(half | sign);
}

}  // namespace qsweep::kernels

namespace qsweep::testing {

std::string WhyNoDevice() { return ""; }
std::string DeviceProblem() { return kernels::emulator.TakeProblem(); }
void* DeviceAllocate(size_t bytes) { return kernels::emulator.Allocate(bytes); }
void DeviceFree(void* memory) { kernels::emulator.Free(memory); }
void CopyToDevice(void* to, const void* from, size_t bytes) {
  if (bytes > 0) {  // else the pointers may be null
    std::memcpy(to, from, bytes);
  }
}
void CopyFromDevice(void* to, const void* from, size_t bytes) {
  if (bytes > 0) {  // else the pointers may be null
    std::memcpy(to, from, bytes);
  }
}

}  // namespace qsweep::testing
