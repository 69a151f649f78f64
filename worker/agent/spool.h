#ifndef QSWEEP_WORKER_AGENT_SPOOL_H_
#define QSWEEP_WORKER_AGENT_SPOOL_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Results that wait for the coordinator, on disk: what Append has returned
// survives a crash of the process and of the machine.
//   Spool::Opened opened = Spool::Open({.directory = dir});
//   ids = opened.spool->Append({bytes});  // durable when it returns
//   opened.spool->Acknowledge(ids[0]);    // the coordinator has it
//
// One preallocated segment, written from its start; each record carries its
// length and checksums, an append is one write and one fdatasync for the whole
// batch. A synced and an acknowledged record are marked in place, without a
// sync: after a crash an acknowledged one may come back and is answered once
// more. A record that is not whole is damage when something shows that it was
// synced: its mark, or a record of a later append; else a crash cut its append
// short, which nobody was told to be durable. When every record is
// acknowledged the segment starts again at offset 0 under the next generation
// number, which tells its records from leftovers. Format: spool.cc.
// Single-thread. One process per directory: the caller holds a lock on it.
class Spool {
 public:
  struct Options {
    std::string directory;  // exists
    size_t capacity_bytes = size_t{32} << 20;
  };
  struct RecordId {
    uint64_t generation = 0;
    uint64_t offset = 0;  // bytes, in the segment
    auto operator<=>(const RecordId&) const = default;
  };
  struct Record {
    RecordId id;
    std::string payload;
  };
  struct Opened;

  // Opens or creates DIR/spool. Damaged records are copied to
  // DIR/damaged-<generation>-<offset> and reported, never returned; what an
  // append cut short has left is dropped; the others are kept. UNAVAILABLE: the
  // file cannot be read, made or written.
  static absl::StatusOr<Opened> Open(const Options& options);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Makes all payloads durable, or none. RESOURCE_EXHAUSTED QS5009: no room
  // until others are acknowledged. DATA_LOSS: a write or sync failed; the disk
  // cannot be trusted any more and every later Append fails alike.
  absl::StatusOr<std::vector<RecordId>> Append(
      std::span<const std::string> payloads);

  // Marks a record. Repeats are harmless. DATA_LOSS: as for Append.
  absl::Status Acknowledge(const RecordId& id);

  size_t num_pending() const { return pending_.size(); }
  // QS5009, with what is left and what waits.
  absl::Status FullError() const;
  // Bytes that more records may take, their headers included, before some are
  // acknowledged.
  size_t room() const { return capacity_ - position_; }
  size_t capacity() const { return capacity_; }

 private:
  Spool(int fd, size_t capacity, uint64_t generation)
      : fd_(fd), capacity_(capacity), generation_(generation) {}
  absl::Status Write(absl::string_view bytes, size_t offset);
  absl::Status Broken(const char* what);
  void StartAgainWhenEmpty();

  const int fd_;
  const size_t capacity_;
  uint64_t generation_;
  size_t position_ = 0;         // where the next record goes
  std::set<uint64_t> pending_;  // offsets of this generation's records
  absl::Status broken_;
};

struct Spool::Opened {
  std::unique_ptr<Spool> spool;
  std::vector<Record> pending;        // in order of appending
  std::vector<absl::Status> damaged;  // DATA_LOSS QS5004, one per damaged place
  uint64_t torn_bytes = 0;            // of an append cut short; dropped
};

// Makes new names in a folder survive a crash of the machine. UNAVAILABLE.
absl::Status SyncDirectory(const std::string& directory);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_SPOOL_H_
