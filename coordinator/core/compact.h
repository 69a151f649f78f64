#ifndef QSWEEP_COORDINATOR_CORE_COMPACT_H_
#define QSWEEP_COORDINATOR_CORE_COMPACT_H_

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "common/base/check.h"

namespace qsweep {

// Value types that cost little while they hold little: State keeps a million
// waiting tasks, and most of what a task may have, most tasks lack.

// An optional T in the space of a pointer. Copies are deep.
template <typename T>
class Boxed {
 public:
  Boxed() = default;
  Boxed(T value)  // NOLINT(google-explicit-constructor): as std::optional
      : value_(std::make_unique<T>(std::move(value))) {}
  Boxed(const Boxed& other)
      : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
  Boxed(Boxed&&) noexcept = default;
  Boxed& operator=(Boxed other) noexcept {
    value_ = std::move(other.value_);
    return *this;
  }

  explicit operator bool() const { return value_ != nullptr; }
  bool has_value() const { return value_ != nullptr; }
  const T& operator*() const { return *value_; }
  T& operator*() { return *value_; }
  const T* operator->() const { return value_.get(); }
  T* operator->() { return value_.get(); }
  void reset() { value_.reset(); }

 private:
  std::unique_ptr<T> value_;
};

// A T in the space of a pointer while it equals a new one: reading what was
// never edited gives T's defaults.
template <typename T>
class Sparse {
 public:
  const T& operator*() const { return value_ ? *value_ : kDefault(); }
  const T* operator->() const { return &**this; }
  T& Edit() {
    if (!value_) {
      value_ = Boxed<T>(T());
    }
    return *value_;
  }

 private:
  static const T& kDefault() {
    static const T value;
    return value;
  }

  Boxed<T> value_;
};

// An IntegerId in four bytes. Ids are given in sequence from 1.
template <typename Id>
class Compact {
 public:
  Compact() = default;
  Compact(Id id)  // NOLINT(google-explicit-constructor): it is the id
      : value_(static_cast<uint32_t>(id.value())) {
    QSWEEP_CHECK(Id(int64_t{value_}) == id);
  }
  operator Id() const {  // NOLINT(google-explicit-constructor)
    return Id(int64_t{value_});
  }
  int64_t value() const { return value_; }
  bool valid() const { return value_ > 0; }  // 0: none
  auto operator<=>(const Compact&) const = default;
  // Not implied by the line above, as there is another ==.
  bool operator==(const Compact&) const = default;
  auto operator<=>(Id other) const { return Id(*this) <=> other; }
  bool operator==(Id other) const { return Id(*this) == other; }

 private:
  uint32_t value_ = 0;
};

// A list that holds one element without an allocation, in 12 bytes. T is small
// and trivially copied. Elements are contiguous; pointers live until the next
// change.
template <typename T>
class SmallList {
  static_assert(std::is_trivially_copyable_v<T> &&
                std::is_trivially_destructible_v<T> && sizeof(T) <= 8 &&
                alignof(T) <= alignof(uint32_t));

 public:
  using value_type = T;
  using const_iterator = const T*;
  using iterator = const T*;

  SmallList() = default;
  SmallList(std::initializer_list<T> values) {
    for (const T& value : values) {
      push_back(value);
    }
  }
  SmallList(const SmallList& other) {
    reserve(other.size());
    std::copy(other.begin(), other.end(), data());
    size_ += static_cast<uint32_t>(other.size());
  }
  SmallList(SmallList&& other) noexcept { swap(other); }
  SmallList& operator=(SmallList other) noexcept {
    swap(other);
    return *this;
  }
  ~SmallList() { clear(); }

  const T* begin() const {
    return boxed() ? box()->elements()
                   : reinterpret_cast<const T*>(place_.data());
  }
  const T* end() const { return begin() + size(); }
  size_t size() const { return size_ & ~kBoxed; }
  bool empty() const { return size() == 0; }
  const T& front() const { return *begin(); }
  const T& back() const { return *(end() - 1); }
  const T& operator[](size_t i) const { return begin()[i]; }

  void reserve(size_t wanted) {
    if (wanted <= capacity()) {
      return;
    }
    Box* const grown = Box::New(wanted);
    std::copy(begin(), end(), grown->elements());
    Free();
    std::memcpy(place_.data(), &grown, sizeof(grown));
    size_ |= kBoxed;
  }
  void push_back(T value) { Insert(size(), value); }
  // Where the order of ascending elements wants it.
  void InsertSorted(T value) {
    Insert(
        static_cast<size_t>(std::upper_bound(begin(), end(), value) - begin()),
        value);
  }
  // Of ascending elements; whether it was there.
  bool EraseSorted(T value) {
    const T* found = std::lower_bound(begin(), end(), value);
    if (found == end() || value < *found) {
      return false;
    }
    std::copy(found + 1, end(), data() + (found - begin()));
    --size_;
    return true;
  }
  void clear() {
    Free();
    size_ = 0;
  }

 private:
  // What more than one element is kept in.
  struct Box {
    static Box* New(size_t capacity) {
      void* const memory = ::operator new(sizeof(Box) + capacity * sizeof(T));
      return new (memory) Box{.capacity = capacity};
    }
    T* elements() { return reinterpret_cast<T*>(this + 1); }

    size_t capacity;
  };

  static constexpr uint32_t kBoxed = uint32_t{1} << 31;

  bool boxed() const { return (size_ & kBoxed) != 0; }
  Box* box() const {
    Box* box = nullptr;
    std::memcpy(&box, place_.data(), sizeof(box));
    return box;
  }
  size_t capacity() const { return boxed() ? box()->capacity : 1; }
  T* data() { return const_cast<T*>(begin()); }
  void Insert(size_t at, T value) {
    if (size() == capacity()) {
      reserve(2 * capacity());
    }
    std::copy_backward(begin() + at, end(), data() + size() + 1);
    data()[at] = value;
    ++size_;
  }
  void Free() {
    if (boxed()) {
      ::operator delete(box());
    }
  }
  void swap(SmallList& other) {
    std::swap(place_, other.place_);
    std::swap(size_, other.size_);
  }

  // One element, or the address of a box: in bytes, because a pointer would
  // have the whole aligned to 8.
  alignas(uint32_t) std::array<std::byte, 8> place_ = {};
  uint32_t size_ = 0;  // kBoxed: in a box
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_COMPACT_H_
