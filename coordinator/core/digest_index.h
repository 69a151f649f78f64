#ifndef QSWEEP_COORDINATOR_CORE_DIGEST_INDEX_H_
#define QSWEEP_COORDINATOR_CORE_DIGEST_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"

#include "common/base/check.h"
#include "common/base/digest.h"

namespace qsweep {

// Finds what has a digest by the number it is kept under, in four to twelve
// bytes an entry: the digests themselves stay with their owner, who hands them
// in as key_of(number). Each digest once. Value type.
class DigestIndex {
 public:
  template <typename KeyOf>
  std::optional<uint32_t> Find(const Digest& key, KeyOf key_of) const {
    if (slots_.empty()) {
      return std::nullopt;
    }
    for (size_t slot = Home(key); slots_[slot] != kEmpty; slot = After(slot)) {
      if (key_of(slots_[slot]) == key) {
        return slots_[slot];
      }
    }
    return std::nullopt;
  }

  // False: a number with this digest is there, and stays.
  template <typename KeyOf>
  bool Insert(uint32_t number, KeyOf key_of) {
    QSWEEP_CHECK(number != kEmpty);
    if (Find(key_of(number), key_of)) {
      return false;
    }
    if ((size_ + 1) * 4 > slots_.size() * 3) {
      Grow(key_of);
    }
    Place(number, key_of);
    ++size_;
    return true;
  }

  // The number must be there.
  template <typename KeyOf>
  void Erase(uint32_t number, KeyOf key_of) {
    size_t hole = Home(key_of(number));
    while (slots_[hole] != number) {
      QSWEEP_CHECK(slots_[hole] != kEmpty);
      hole = After(hole);
    }
    // Those behind it move up, unless they would stand before their home.
    for (size_t slot = After(hole); slots_[slot] != kEmpty;
         slot = After(slot)) {
      const size_t home = Home(key_of(slots_[slot]));
      if (Distance(home, slot) >= Distance(hole, slot)) {
        slots_[hole] = slots_[slot];
        hole = slot;
      }
    }
    slots_[hole] = kEmpty;
    --size_;
  }

  size_t size() const { return size_; }

 private:
  static constexpr uint32_t kEmpty = ~uint32_t{0};

  size_t Home(const Digest& key) const {
    return absl::Hash<Digest>()(key) & (slots_.size() - 1);
  }
  size_t After(size_t slot) const { return (slot + 1) & (slots_.size() - 1); }
  size_t Distance(size_t from, size_t to) const {
    return (to - from) & (slots_.size() - 1);
  }
  template <typename KeyOf>
  void Place(uint32_t number, KeyOf key_of) {
    size_t slot = Home(key_of(number));
    while (slots_[slot] != kEmpty) {
      slot = After(slot);
    }
    slots_[slot] = number;
  }
  template <typename KeyOf>
  void Grow(KeyOf key_of) {
    const size_t size = slots_.empty() ? 16 : slots_.size() * 2;
    const std::vector<uint32_t> old =
        std::exchange(slots_, std::vector<uint32_t>(size, kEmpty));
    for (const uint32_t number : old) {
      if (number != kEmpty) {
        Place(number, key_of);
      }
    }
  }

  std::vector<uint32_t> slots_;  // a power of two
  size_t size_ = 0;
};

// Numbers digests from 0 in the order they come. Never forgets one. Value
// type.
class DigestTable {
 public:
  // Its number, new or known.
  uint32_t Add(const Digest& digest) {
    if (const auto known = Find(digest)) {
      return *known;
    }
    digests_.push_back(digest);
    const auto number = static_cast<uint32_t>(digests_.size() - 1);
    index_.Insert(number, KeyOf{digests_});
    return number;
  }
  std::optional<uint32_t> Find(const Digest& digest) const {
    return index_.Find(digest, KeyOf{digests_});
  }
  const Digest& operator[](uint32_t number) const { return digests_[number]; }
  size_t size() const { return digests_.size(); }

 private:
  struct KeyOf {
    const std::vector<Digest>& digests;
    const Digest& operator()(uint32_t number) const { return digests[number]; }
  };

  std::vector<Digest> digests_;
  DigestIndex index_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_DIGEST_INDEX_H_
