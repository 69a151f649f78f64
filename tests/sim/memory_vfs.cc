#include "tests/sim/memory_vfs.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "coordinator/store/sqlite.h"
#include "sqlite3.h"

namespace qsweep::sim {
namespace {

// What is written or lost as one.
constexpr int64_t kSector = 512;

std::string NextName() {
  static std::atomic<int> next = 0;
  return absl::StrCat("qsweep-memory-", ++next);
}

}  // namespace

// An open file. SQLite allocates it and knows its first member.
struct MemoryVfs::Handle {
  sqlite3_file base;
  MemoryVfs* disk;
  FilePtr file;
  std::shared_ptr<Shared> shared;
  uint64_t life;
  int lock = SQLITE_LOCK_NONE;
  uint8_t shared_held = 0;  // slots of the WAL index, a bit each
  uint8_t exclusive_held = 0;

  bool dead() const { return life != disk->life_; }
};

// SQLite's callbacks: they find the handle and hand on to MemoryVfs.
struct VfsCalls {
  using Handle = MemoryVfs::Handle;
  static MemoryVfs& Disk(sqlite3_vfs* vfs) {
    return *static_cast<MemoryVfs*>(vfs->pAppData);
  }
  static Handle& Of(sqlite3_file* file) {
    return *reinterpret_cast<Handle*>(file);
  }

  static int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* out,
                  int flags, int* out_flags);
  static int Delete(sqlite3_vfs* vfs, const char* name, int sync_directory) {
    return Disk(vfs).Delete(name, sync_directory != 0);
  }
  static int Access(sqlite3_vfs* vfs, const char* name, int, int* result) {
    *result = Disk(vfs).files_.contains(name) ? 1 : 0;
    return SQLITE_OK;
  }
  static int FullPathname(sqlite3_vfs*, const char* name, int size, char* out) {
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
  }
  static int Randomness(sqlite3_vfs* vfs, int size, char* out) {
    for (int i = 0; i < size; ++i) {
      out[i] = static_cast<char>(Disk(vfs).random_.Next());
    }
    return size;
  }
  static int Sleep(sqlite3_vfs*, int) { return SQLITE_OK; }
  static int CurrentTime(sqlite3_vfs*, double* days) {
    *days = 2'460'000;
    return SQLITE_OK;
  }
  static int GetLastError(sqlite3_vfs* vfs, int, char*) {
    return Disk(vfs).last_errno_;
  }
  static int CurrentTimeInt64(sqlite3_vfs*, sqlite3_int64* ms) {
    *ms = sqlite3_int64{2'460'000} * 86'400'000;
    return SQLITE_OK;
  }

  static int Close(sqlite3_file* file);
  static int Read(sqlite3_file* file, void* out, int size,
                  sqlite3_int64 offset);
  static int Write(sqlite3_file* file, const void* data, int size,
                   sqlite3_int64 offset) {
    return Of(file).disk->Write(Of(file), static_cast<const char*>(data), size,
                                offset);
  }
  static int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    return Of(file).disk->Truncate(Of(file), size);
  }
  static int Sync(sqlite3_file* file, int) {
    return Of(file).disk->Sync(Of(file));
  }
  static int FileSize(sqlite3_file* file, sqlite3_int64* size) {
    if (Of(file).dead()) {
      return SQLITE_IOERR_FSTAT;
    }
    *size = static_cast<sqlite3_int64>(Of(file).file->bytes.size());
    return SQLITE_OK;
  }
  static int Lock(sqlite3_file* file, int level);
  static int Unlock(sqlite3_file* file, int level) {
    Of(file).lock = std::min(Of(file).lock, level);
    return SQLITE_OK;
  }
  static int CheckReservedLock(sqlite3_file* file, int* result);
  static int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
  static int SectorSize(sqlite3_file*) { return 4096; }
  static int DeviceCharacteristics(sqlite3_file*) {
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;  // as the Unix VFS says
  }
  static int ShmMap(sqlite3_file* file, int region, int size, int extend,
                    void volatile** out);
  static int ShmLock(sqlite3_file* file, int first, int count, int flags);
  static void ShmBarrier(sqlite3_file*) {}
  static int ShmUnmap(sqlite3_file* file, int remove);

  static const sqlite3_io_methods kMethods;
};

const sqlite3_io_methods VfsCalls::kMethods = {
    .iVersion = 2,
    .xClose = Close,
    .xRead = Read,
    .xWrite = Write,
    .xTruncate = Truncate,
    .xSync = Sync,
    .xFileSize = FileSize,
    .xLock = Lock,
    .xUnlock = Unlock,
    .xCheckReservedLock = CheckReservedLock,
    .xFileControl = FileControl,
    .xSectorSize = SectorSize,
    .xDeviceCharacteristics = DeviceCharacteristics,
    .xShmMap = ShmMap,
    .xShmLock = ShmLock,
    .xShmBarrier = ShmBarrier,
    .xShmUnmap = ShmUnmap,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

int VfsCalls::Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* out,
                   int flags, int* out_flags) {
  MemoryVfs& disk = Disk(vfs);
  out->pMethods = nullptr;
  MemoryVfs::FilePtr file;
  if (!disk.alive_) {
    disk.last_errno_ = EIO;
    return SQLITE_CANTOPEN;
  }
  if (name == nullptr) {
    file = std::make_shared<MemoryVfs::File>();  // temporary, nobody else's
  } else if (const auto it = disk.files_.find(name); it != disk.files_.end()) {
    file = it->second;
  } else if ((flags & SQLITE_OPEN_CREATE) != 0) {
    file = std::make_shared<MemoryVfs::File>();
    disk.files_.emplace(name, file);
  } else {
    disk.last_errno_ = ENOENT;
    return SQLITE_CANTOPEN;
  }
  auto* handle = new (out) Handle{.base = {&kMethods},
                                  .disk = &disk,
                                  .file = file,
                                  .shared = file->shared,
                                  .life = disk.life_};
  file->handles.push_back(handle);
  if (out_flags != nullptr) {
    *out_flags = flags;
  }
  return SQLITE_OK;
}

int VfsCalls::Close(sqlite3_file* file) {
  Handle& handle = Of(file);
  if (!handle.dead()) {
    ShmUnmap(file, 0);
  }
  std::erase(handle.file->handles, &handle);
  handle.~Handle();
  return SQLITE_OK;
}

int VfsCalls::Read(sqlite3_file* file, void* out, int size,
                   sqlite3_int64 offset) {
  Handle& handle = Of(file);
  if (handle.dead() || handle.disk->Take(MemoryVfs::Fault::kReadError)) {
    handle.disk->last_errno_ = EIO;
    return SQLITE_IOERR_READ;
  }
  const std::string& bytes = handle.file->bytes;
  const int64_t there =
      std::clamp<int64_t>(static_cast<int64_t>(bytes.size()) - offset, 0, size);
  std::memcpy(out, bytes.data() + offset, static_cast<size_t>(there));
  if (there == size) {
    return SQLITE_OK;
  }
  std::memset(static_cast<char*>(out) + there, 0,
              static_cast<size_t>(size - there));
  return SQLITE_IOERR_SHORT_READ;
}

int VfsCalls::Lock(sqlite3_file* file, int level) {
  Handle& handle = Of(file);
  if (handle.dead()) {
    return SQLITE_IOERR_LOCK;
  }
  for (const Handle* other : handle.file->handles) {
    const bool blocks =
        other != &handle && !other->dead() &&
        (level == SQLITE_LOCK_SHARED     ? other->lock >= SQLITE_LOCK_PENDING
         : level == SQLITE_LOCK_RESERVED ? other->lock >= SQLITE_LOCK_RESERVED
                                         : other->lock >= SQLITE_LOCK_SHARED);
    if (blocks) {
      return SQLITE_BUSY;
    }
  }
  handle.lock = std::max(handle.lock, level);
  return SQLITE_OK;
}

int VfsCalls::CheckReservedLock(sqlite3_file* file, int* result) {
  *result = std::ranges::any_of(Of(file).file->handles,
                                [](const Handle* other) {
                                  return !other->dead() &&
                                         other->lock >= SQLITE_LOCK_RESERVED;
                                })
                ? 1
                : 0;
  return SQLITE_OK;
}

int VfsCalls::ShmMap(sqlite3_file* file, int region, int size, int extend,
                     void volatile** out) {
  Handle& handle = Of(file);
  *out = nullptr;
  if (handle.dead()) {
    return SQLITE_IOERR_SHMMAP;
  }
  auto& regions = handle.shared->regions;
  while (extend != 0 && regions.size() <= static_cast<size_t>(region)) {
    regions.push_back(std::make_unique<char[]>(static_cast<size_t>(size)));
  }
  if (regions.size() > static_cast<size_t>(region)) {
    *out = regions[static_cast<size_t>(region)].get();
  }
  return SQLITE_OK;
}

int VfsCalls::ShmLock(sqlite3_file* file, int first, int count, int flags) {
  Handle& handle = Of(file);
  if (handle.dead()) {
    return SQLITE_IOERR_SHMLOCK;
  }
  int* const locks = handle.shared->locks;
  const bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  uint8_t& held = exclusive ? handle.exclusive_held : handle.shared_held;
  for (int pass = 0; pass < 2; ++pass) {
    for (int slot = first; slot < first + count; ++slot) {
      const auto bit = static_cast<uint8_t>(1U << slot);
      const bool has = (held & bit) != 0;
      if ((flags & SQLITE_SHM_UNLOCK) != 0) {
        if (pass == 1 && has) {
          locks[slot] = exclusive ? 0 : locks[slot] - 1;
          held = static_cast<uint8_t>(held & ~bit);
        }
      } else if (pass == 0) {
        const bool own = !exclusive && has;
        if (!own && (exclusive ? locks[slot] != 0 : locks[slot] < 0)) {
          return SQLITE_BUSY;
        }
      } else if (!has) {
        locks[slot] = exclusive ? -1 : locks[slot] + 1;
        held = static_cast<uint8_t>(held | bit);
      }
    }
  }
  return SQLITE_OK;
}

int VfsCalls::ShmUnmap(sqlite3_file* file, int remove) {
  Handle& handle = Of(file);
  if (handle.dead()) {
    return SQLITE_OK;
  }
  for (int slot = 0; slot < 8; ++slot) {
    const auto bit = static_cast<uint8_t>(1U << slot);
    if ((handle.exclusive_held & bit) != 0) {
      handle.shared->locks[slot] = 0;
    } else if ((handle.shared_held & bit) != 0) {
      --handle.shared->locks[slot];
    }
  }
  handle.exclusive_held = handle.shared_held = 0;
  if (remove != 0) {
    handle.file->shared = std::make_shared<MemoryVfs::Shared>();
  }
  return SQLITE_OK;
}

MemoryVfs::MemoryVfs(uint64_t seed)
    : random_(seed),
      name_(NextName()),
      vfs_(std::make_unique<sqlite3_vfs>(sqlite3_vfs{
          .iVersion = 2,
          .szOsFile = sizeof(Handle),
          .mxPathname = 512,
          .pNext = nullptr,
          .zName = name_.c_str(),
          .pAppData = this,
          .xOpen = VfsCalls::Open,
          .xDelete = VfsCalls::Delete,
          .xAccess = VfsCalls::Access,
          .xFullPathname = VfsCalls::FullPathname,
          .xDlOpen = nullptr,
          .xDlError = nullptr,
          .xDlSym = nullptr,
          .xDlClose = nullptr,
          .xRandomness = VfsCalls::Randomness,
          .xSleep = VfsCalls::Sleep,
          .xCurrentTime = VfsCalls::CurrentTime,
          .xGetLastError = VfsCalls::GetLastError,
          .xCurrentTimeInt64 = VfsCalls::CurrentTimeInt64,
      })) {
  ConfigureSqlite();
  QSWEEP_CHECK(sqlite3_vfs_register(vfs_.get(), 0) == SQLITE_OK);
}

MemoryVfs::~MemoryVfs() { sqlite3_vfs_unregister(vfs_.get()); }

void MemoryVfs::CopyFilesOf(const MemoryVfs& other) {
  QSWEEP_CHECK(files_.empty());
  for (const auto& [name, file] : other.files_) {
    QSWEEP_CHECK(file->handles.empty());
    const auto copy = std::make_shared<File>();
    copy->bytes = file->bytes;
    copy->durable = file->durable;
    copy->unsynced = file->unsynced;
    copy->durable_name = file->durable_name;
    files_.emplace(name, copy);
  }
}

void MemoryVfs::KillProcess() {
  ++life_;
  alive_ = false;
  kill_after_ = 0;
  for (const auto& [name, file] : files_) {
    file->shared = std::make_shared<Shared>();
  }
}

void MemoryVfs::CutPower() {
  KillProcess();
  for (auto& [name, file] : std::exchange(deleted_, {})) {
    if (file->durable_name && random_.Below(2) == 0) {
      files_.try_emplace(name, std::move(file));
    }
  }
  std::erase_if(files_, [this](const auto& entry) {
    return !entry.second->durable_name && random_.Below(2) == 0;
  });
  for (auto& [name, file] : files_) {
    auto after = std::make_shared<File>();
    after->bytes = after->durable = Remains(*file);
    after->durable_name = true;
    file = std::move(after);  // the dead handles keep the old one
  }
}

std::string MemoryVfs::Remains(const File& file) {
  std::string remains = file.durable;
  if (file.bytes.size() < remains.size() && random_.Below(2) == 0) {
    remains.resize(file.bytes.size());  // the truncation got through
  }
  const auto size = static_cast<int64_t>(file.bytes.size());
  for (const Range& range : file.unsynced) {
    const int64_t end = std::min(range.end, size);
    for (int64_t at = range.begin; at < end;) {
      const int64_t next = std::min((at / kSector + 1) * kSector, end);
      KeepSector(file, {at, next}, remains);
      at = next;
    }
  }
  return remains;
}

void MemoryVfs::KeepSector(const File& file, Range sector,
                           std::string& remains) {
  int64_t size = sector.end - sector.begin;
  switch (random_.Below(8)) {
    case 0:
    case 1:
    case 2:
      return;  // lost
    case 3:    // torn
      size =
          static_cast<int64_t>(random_.Below(static_cast<uint64_t>(size) + 1));
      break;
    default:
      break;
  }
  const auto end = static_cast<size_t>(sector.begin + size);
  if (remains.size() < end) {
    remains.resize(end);
  }
  file.bytes.copy(remains.data() + sector.begin, static_cast<size_t>(size),
                  static_cast<size_t>(sector.begin));
}

void MemoryVfs::KillAfter(int operations, std::function<void()> died) {
  kill_after_ = operations;
  died_ = std::move(died);
}

MemoryVfs::Verdict MemoryVfs::CountOperation() {
  ++num_operations_;
  return kill_after_ > 0 && --kill_after_ == 0 ? Verdict::kDie : Verdict::kGoOn;
}

void MemoryVfs::FailNext(Fault fault) { faults_.push_back(fault); }
void MemoryVfs::ClearFaults() { faults_.clear(); }

bool MemoryVfs::Take(Fault fault) {
  const auto it = std::ranges::find(faults_, fault);
  if (it == faults_.end()) {
    return false;
  }
  faults_.erase(it);
  return true;
}

int64_t MemoryVfs::bytes_used() const {
  int64_t used = reserved_;
  for (const auto& [name, file] : files_) {
    used += static_cast<int64_t>(file->bytes.size());
  }
  return used;
}

bool MemoryVfs::TakeReserve(int64_t bytes) {
  if (reserved_ == 0 && bytes_used() + bytes <= capacity_) {
    reserved_ = bytes;
  }
  return reserved_ > 0;
}

void MemoryVfs::Put(File& file, const char* data, int64_t size,
                    int64_t offset) {
  const int64_t end = offset + size;
  if (static_cast<int64_t>(file.bytes.size()) < end) {
    file.bytes.resize(static_cast<size_t>(end));
  }
  std::memcpy(file.bytes.data() + offset, data, static_cast<size_t>(size));
  if (!file.unsynced.empty() && file.unsynced.back().end == offset) {
    file.unsynced.back().end = end;
  } else {
    file.unsynced.push_back({offset, end});
  }
}

int MemoryVfs::Write(Handle& handle, const char* data, int64_t size,
                     int64_t offset) {
  if (handle.dead()) {
    last_errno_ = EIO;
    return SQLITE_IOERR_WRITE;
  }
  File& file = *handle.file;
  const auto part = [&] {
    Put(file, data,
        static_cast<int64_t>(random_.Below(static_cast<uint64_t>(size))),
        offset);
  };
  if (CountOperation() == Verdict::kDie) {
    part();
    KillProcess();
    died_();
    return SQLITE_IOERR_WRITE;
  }
  if (Take(Fault::kWriteError)) {
    last_errno_ = EIO;
    return SQLITE_IOERR_WRITE;
  }
  const int64_t growth =
      offset + size - static_cast<int64_t>(file.bytes.size());
  const bool short_write = Take(Fault::kShortWrite);
  if (short_write || (growth > 0 && bytes_used() + growth > capacity_)) {
    if (short_write) {
      part();
    }
    last_errno_ = ENOSPC;
    return SQLITE_FULL;
  }
  Put(file, data, size, offset);
  return SQLITE_OK;
}

int MemoryVfs::Truncate(Handle& handle, int64_t size) {
  if (handle.dead()) {
    return SQLITE_IOERR_TRUNCATE;
  }
  if (CountOperation() == Verdict::kDie) {
    KillProcess();
    died_();
    return SQLITE_IOERR_TRUNCATE;
  }
  handle.file->bytes.resize(static_cast<size_t>(size));
  for (Range& range : handle.file->unsynced) {
    range.end = std::min(range.end, size);
  }
  std::erase_if(handle.file->unsynced,
                [](const Range& range) { return range.begin >= range.end; });
  return SQLITE_OK;
}

int MemoryVfs::Sync(Handle& handle) {
  if (handle.dead()) {
    return SQLITE_IOERR_FSYNC;
  }
  File& file = *handle.file;
  if (CountOperation() == Verdict::kDie) {
    KillProcess();
    died_();
    return SQLITE_IOERR_FSYNC;
  }
  ++num_syncs_;
  if (Take(Fault::kSyncError)) {
    file.durable = Remains(file);
    file.unsynced.clear();
    last_errno_ = EIO;
    return SQLITE_IOERR_FSYNC;
  }
  file.durable.resize(file.bytes.size());
  for (const Range& range : file.unsynced) {
    file.bytes.copy(file.durable.data() + range.begin,
                    static_cast<size_t>(range.end - range.begin),
                    static_cast<size_t>(range.begin));
  }
  file.unsynced.clear();
  if (!file.durable_name) {  // as the Unix VFS, which syncs the directory then
    deleted_.clear();
    file.durable_name = true;
    for (const auto& [name, other] : files_) {
      other->durable_name = true;
    }
  }
  return SQLITE_OK;
}

int MemoryVfs::Delete(const std::string& name, bool sync_directory) {
  if (!alive_) {
    return SQLITE_IOERR_DELETE;
  }
  const auto it = files_.find(name);
  if (it == files_.end()) {
    last_errno_ = ENOENT;
    return SQLITE_IOERR_DELETE_NOENT;
  }
  if (CountOperation() == Verdict::kDie) {
    KillProcess();
    died_();
    return SQLITE_IOERR_DELETE;
  }
  if (!sync_directory) {
    deleted_.emplace_back(name, it->second);
  }
  files_.erase(it);
  return SQLITE_OK;
}

}  // namespace qsweep::sim
