// The segment, little endian, records at multiples of 8:
//   0  u32 magic   4  u32 payload size   8  u64 generation
//   16 u64 offset of the first record of the same append
//   24 u64 checksum of the payload       32 u64 checksum of bytes 0-31
//   40 u8 0xFF once acknowledged         41 zeros to 44
//   44 u32 SyncMark once synced, then the payload
// After the last record 48 zero bytes stand where the next header would, so
// that leftovers of an older generation are never taken for a damaged record.
#include "worker/agent/spool.h"

#include <algorithm>
#include <cstring>
#include <errno.h>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <sstream>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr uint32_t kMagic = 0x43455251;  // "QREC"
constexpr size_t kHeaderBytes = 48;
constexpr size_t kSummedBytes = 32;
constexpr size_t kStateOffset = 40;
constexpr size_t kSyncMarkOffset = 44;
constexpr char kAcknowledged = '\xFF';
constexpr size_t kAlignment = 8;
constexpr size_t kMaxSetAsideBytes = size_t{4} << 20;

struct Header {
  uint32_t payload_size = 0;
  uint64_t generation = 0;
  uint64_t batch = 0;  // offset of the first record of its append
  uint64_t payload_sum = 0;
  bool acknowledged = false;
};

// A record found in the segment.
struct Found {
  uint64_t offset = 0;
  uint64_t end = 0;  // of the record, aligned
  Header header;
  bool intact = false;  // its payload is whole
};

size_t RecordBytes(size_t payload_size) {
  const size_t bytes = kHeaderBytes + payload_size;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

uint64_t Sum(absl::string_view bytes) {
  const std::string digest = Digest::Of(bytes).bytes();
  uint64_t sum;
  std::memcpy(&sum, digest.data(), sizeof(sum));
  return sum;
}

template <typename T>
void Put(std::string& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

template <typename T>
T Get(absl::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// What a synced record at this place carries; leftovers of another generation
// or place do not have it by chance.
uint32_t SyncMark(uint64_t generation, uint64_t offset) {
  uint64_t mixed = (generation + 1) * 0x9E3779B97F4A7C15u ^ (offset + 1);
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  return static_cast<uint32_t>(mixed >> 32) | 1;
}

bool HasSyncMark(absl::string_view segment, uint64_t generation,
                 uint64_t offset) {
  return offset + kHeaderBytes <= segment.size() &&
         Get<uint32_t>(segment, offset + kSyncMarkOffset) ==
             SyncMark(generation, offset);
}

std::string EncodeRecord(absl::string_view payload, uint64_t generation,
                         uint64_t batch) {
  std::string record(RecordBytes(payload.size()), '\0');
  Put(record, 0, kMagic);
  Put(record, 4, static_cast<uint32_t>(payload.size()));
  Put(record, 8, generation);
  Put(record, 16, batch);
  Put(record, 24, Sum(payload));
  Put(record, 32, Sum(absl::string_view(record).substr(0, kSummedBytes)));
  std::memcpy(record.data() + kHeaderBytes, payload.data(), payload.size());
  return record;
}

std::optional<Header> DecodeHeader(absl::string_view segment, size_t offset) {
  const absl::string_view bytes = segment.substr(offset, kHeaderBytes);
  if (bytes.size() < kHeaderBytes || Get<uint32_t>(bytes, 0) != kMagic ||
      Get<uint64_t>(bytes, 32) != Sum(bytes.substr(0, kSummedBytes))) {
    return std::nullopt;
  }
  return Header{.payload_size = Get<uint32_t>(bytes, 4),
                .generation = Get<uint64_t>(bytes, 8),
                .batch = Get<uint64_t>(bytes, 16),
                .payload_sum = Get<uint64_t>(bytes, 24),
                .acknowledged = bytes[kStateOffset] == kAcknowledged};
}

// All records of all generations, by offset.
std::vector<Found> FindRecords(absl::string_view segment) {
  std::vector<Found> records;
  for (size_t offset = 0; offset < segment.size();) {
    const std::optional<Header> header = DecodeHeader(segment, offset);
    if (!header) {
      offset += kAlignment;
      continue;
    }
    Found found{.offset = offset,
                .end = offset + RecordBytes(header->payload_size),
                .header = *header};
    const absl::string_view payload =
        segment.substr(offset + kHeaderBytes, header->payload_size);
    found.intact = payload.size() == header->payload_size &&
                   Sum(payload) == header->payload_sum;
    records.push_back(found);
    offset = found.end;
  }
  return records;
}

using Place = std::pair<uint64_t, uint64_t>;  // [from, to)

// What a segment holds.
struct Contents {
  uint64_t generation = 0;  // the newest
  uint64_t end = 0;         // after its last record
  std::vector<Spool::Record> pending;
  std::vector<Place> broken;   // no whole record
  std::vector<Place> damaged;  // those of broken that were synced once
  uint64_t torn_bytes = 0;     // of the others
};

// Appends come one after the other, each synced before the next: up to the
// offset this returns everything was synced.
uint64_t SyncedUpTo(absl::string_view segment, const std::vector<Found>& all,
                    const Contents& contents) {
  uint64_t synced = 0;
  for (const Found& found : all) {
    if (found.header.generation == contents.generation) {
      synced = std::max(synced, found.header.batch);
      if (found.header.acknowledged ||
          HasSyncMark(segment, contents.generation, found.offset)) {
        synced = std::max(synced, found.end);
      }
    }
  }
  // Marks whose headers are destroyed; at the front of the next generation too,
  // for then nothing is left of it.
  for (const auto& [from, to] : contents.broken) {
    for (uint64_t offset = from; offset < to; offset += kAlignment) {
      if (HasSyncMark(segment, contents.generation, offset)) {
        synced = std::max(synced, offset + kHeaderBytes);
      }
    }
    if (from == 0 && HasSyncMark(segment, contents.generation + 1, 0)) {
      synced = std::max<uint64_t>(synced, kHeaderBytes);
    }
  }
  return synced;
}

Contents ReadContents(absl::string_view segment) {
  Contents contents;
  const std::vector<Found> all = FindRecords(segment);
  for (const Found& found : all) {
    contents.generation =
        std::max(contents.generation, found.header.generation);
  }
  for (const Found& found : all) {
    if (found.header.generation != contents.generation) {
      continue;
    }
    if (found.offset != contents.end) {  // a header in between is destroyed
      contents.broken.emplace_back(contents.end, found.offset);
    }
    contents.end = found.end;
    if (!found.intact) {
      contents.broken.emplace_back(found.offset, found.end);
    } else if (!found.header.acknowledged) {
      contents.pending.push_back(
          {{contents.generation, found.offset},
           std::string(segment.substr(found.offset + kHeaderBytes,
                                      found.header.payload_size))});
    }
  }
  // The place of the next header must be zero.
  if (contents.end < segment.size()) {
    const absl::string_view next = segment.substr(contents.end, kHeaderBytes);
    if (std::any_of(next.begin(), next.end(), [](char c) { return c != 0; })) {
      uint64_t to = segment.size();
      for (const Found& found : all) {
        if (found.offset > contents.end) {
          to = std::min(to, found.offset);
        }
      }
      contents.broken.emplace_back(contents.end, to);
    }
  }
  const uint64_t synced = SyncedUpTo(segment, all, contents);
  for (const Place& place : contents.broken) {
    if (place.first < synced) {
      contents.damaged.push_back(place);
    } else {
      contents.torn_bytes += place.second - place.first;
    }
  }
  return contents;
}

absl::Status FileError(absl::string_view what, const std::string& path) {
  return absl::UnavailableError(
      absl::StrCat(what, " '", path, "': ", strerror(errno)));
}

// The file's bytes; none when it does not exist.
absl::StatusOr<std::string> ReadSegment(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
    return std::string();
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file && !file.eof()) {
    return FileError("cannot read", path);
  }
  return bytes.str();
}

// Copies what is damaged aside, so that somebody can look at it.
absl::Status SetAside(const std::string& directory, absl::string_view segment,
                      uint64_t generation, const Place& place) {
  const std::string path =
      absl::StrCat(directory, "/damaged-", generation, "-", place.first);
  const uint64_t size =
      std::min<uint64_t>(place.second - place.first, kMaxSetAsideBytes);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const absl::string_view bytes = segment.substr(place.first, size);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return MakeError(
      kSpoolDamaged,
      absl::StrCat("a result in the spool is damaged (bytes ", place.first,
                   " to ", place.second, "); ",
                   file.flush() ? "copied to " : "cannot be copied to ", path),
      path, "check the disk; the task runs again by itself");
}

// A new segment under path.
absl::StatusOr<int> MakeSegment(const std::string& path, size_t capacity) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) {
    return FileError("cannot make", path);
  }
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(capacity));
  if (error != 0) {
    close(fd);
    errno = error;
    return FileError("cannot reserve room for", path);
  }
  return fd;
}

}  // namespace

absl::Status SyncDirectory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    return FileError("cannot open", directory);
  }
  const int synced = fsync(fd);
  const int error = errno;
  close(fd);
  errno = error;
  return synced == 0 ? absl::OkStatus() : FileError("cannot sync", directory);
}

absl::StatusOr<Spool::Opened> Spool::Open(const Options& options) {
  const std::string path = options.directory + "/spool";
  QSWEEP_ASSIGN_OR_RETURN(const std::string segment, ReadSegment(path));
  Contents contents = ReadContents(segment);
  Opened opened;
  opened.torn_bytes = contents.torn_bytes;
  for (const Place& place : contents.damaged) {
    opened.damaged.push_back(
        SetAside(options.directory, segment, contents.generation, place));
  }
  if (contents.broken.empty() && segment.size() == options.capacity_bytes) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      return FileError("cannot open", path);
    }
    opened.spool.reset(
        new Spool(fd, options.capacity_bytes, contents.generation));
    opened.spool->position_ = contents.end;
    for (const Record& record : contents.pending) {
      opened.spool->pending_.insert(record.id.offset);
    }
    opened.pending = std::move(contents.pending);
    opened.spool->StartAgainWhenEmpty();
    return opened;
  }
  // New, broken or of another size: what is whole moves to a new segment.
  const std::string next_path = path + ".next";
  QSWEEP_ASSIGN_OR_RETURN(const int fd,
                          MakeSegment(next_path, options.capacity_bytes));
  opened.spool.reset(
      new Spool(fd, options.capacity_bytes, contents.generation + 1));
  std::vector<std::string> payloads;
  for (Record& record : contents.pending) {
    payloads.push_back(std::move(record.payload));
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<RecordId> ids,
                          opened.spool->Append(payloads));
  for (size_t i = 0; i < ids.size(); ++i) {
    opened.pending.push_back({ids[i], std::move(payloads[i])});
  }
  if (rename(next_path.c_str(), path.c_str()) != 0) {
    return FileError("cannot replace", path);
  }
  QSWEEP_RETURN_IF_ERROR(SyncDirectory(options.directory));
  return opened;
}

Spool::~Spool() { close(fd_); }

absl::Status Spool::Broken(const char* what) {
  broken_ = absl::DataLossError(
      absl::StrCat("the result spool: ", what, ": ", strerror(errno)));
  return broken_;
}

absl::Status Spool::FullError() const {
  return MakeError(kSpoolFull,
                   absl::StrCat("the result spool has ", room(), " of ",
                                capacity_, " bytes left; ", pending_.size(),
                                " results wait for the coordinator"),
                   "spool",
                   "bring the coordinator back; the results are sent then");
}

absl::Status Spool::Write(absl::string_view bytes, size_t offset) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t written =
        pwrite(fd_, bytes.data() + done, bytes.size() - done,
               static_cast<off_t>(offset + done));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return Broken("write failed");
    }
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Spool::RecordId>> Spool::Append(
    std::span<const std::string> payloads) {
  QSWEEP_RETURN_IF_ERROR(broken_);
  std::string batch;
  std::vector<RecordId> ids;
  for (const std::string& payload : payloads) {
    ids.push_back({generation_, position_ + batch.size()});
    if (payload.size() > capacity_) {  // the header's u32 holds all others
      batch.resize(capacity_ + 1);
      break;
    }
    batch += EncodeRecord(payload, generation_, position_);
  }
  if (batch.size() > capacity_ - position_) {
    return FullError();
  }
  const size_t end = position_ + batch.size();
  batch.resize(std::min(batch.size() + kHeaderBytes, capacity_ - position_));
  QSWEEP_RETURN_IF_ERROR(Write(batch, position_));
  // Never tried again: after a failed sync the kernel forgets which pages are
  // not on the disk.
  if (fdatasync(fd_) != 0) {
    return Broken("sync failed");
  }
  position_ = end;
  for (const RecordId& id : ids) {
    pending_.insert(id.offset);
    std::string mark(sizeof(uint32_t), '\0');
    Put(mark, 0, SyncMark(generation_, id.offset));
    QSWEEP_RETURN_IF_ERROR(Write(mark, id.offset + kSyncMarkOffset));
  }
  return ids;
}

absl::Status Spool::Acknowledge(const RecordId& id) {
  QSWEEP_RETURN_IF_ERROR(broken_);
  if (id.generation != generation_ || pending_.erase(id.offset) == 0) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(
      Write(std::string(1, kAcknowledged), id.offset + kStateOffset));
  StartAgainWhenEmpty();
  return absl::OkStatus();
}

void Spool::StartAgainWhenEmpty() {
  if (pending_.empty()) {
    ++generation_;
    position_ = 0;
  }
}

}  // namespace qsweep
