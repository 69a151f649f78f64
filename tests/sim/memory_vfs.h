#ifndef QSWEEP_TESTS_SIM_MEMORY_VFS_H_
#define QSWEEP_TESTS_SIM_MEMORY_VFS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"

struct sqlite3_vfs;

namespace qsweep::sim {

// A disk in memory, as an SQLite VFS of its own name. Bytes that were written
// and bytes that were synced are kept apart, so it can do what a real disk does
// to a database and no test on a real file can: lose what was not synced.
// Files, locks and shared memory belong to this object; no real file is
// touched. Single-thread; outlives every connection.
//   MemoryVfs disk(seed);
//   auto store = OpenSqliteStore({.directory = "/d", .vfs = disk.name(), ...});
//   disk.CutPower();   // every open connection is dead now
//   store->reset();    // changes nothing any more
//   disk.StartProcess();
//   ... open again ...
class MemoryVfs {
 public:
  explicit MemoryVfs(uint64_t seed);
  ~MemoryVfs();
  MemoryVfs(const MemoryVfs&) = delete;
  MemoryVfs& operator=(const MemoryVfs&) = delete;

  const std::string& name() const { return name_; }

  // Takes the files of a disk on which nothing is open; this one is empty.
  void CopyFilesOf(const MemoryVfs& other);

  // As kill -9: what is open fails from now on and changes nothing, nor can
  // anything be opened before StartProcess; locks and shared memory are gone.
  // What was written stays, synced or not.
  void KillProcess();
  void StartProcess() { alive_ = true; }
  // And of what was not synced each sector is kept, lost or torn; a file that
  // was never synced may be gone.
  void CutPower();
  // The process dies in the midst of the nth write, truncation, sync or
  // deletion from now; of a write a part may get through. Then `died` is
  // called. 0: not any more.
  void KillAfter(int operations, std::function<void()> died);

  // What the next operation of that kind does, once.
  enum class Fault {
    kReadError,
    kWriteError,
    kShortWrite,  // a part is written, then the disk is full
    kSyncError,   // as Linux: the pages are clean from now on, on disk or not
  };
  void FailNext(Fault fault);
  void ClearFaults();
  // Bytes that all files may take; a write above says "full".
  void set_capacity(int64_t bytes) { capacity_ = bytes; }
  int64_t bytes_used() const;
  // Space kept aside: counts as used. False: no room.
  bool TakeReserve(int64_t bytes);
  void FreeReserve() { reserved_ = 0; }

  int64_t num_syncs() const { return num_syncs_; }
  int64_t num_operations() const { return num_operations_; }

 private:
  friend struct VfsCalls;  // SQLite's callbacks

  // Bytes of a file that changed since its last sync.
  struct Range {
    int64_t begin;
    int64_t end;
  };
  struct Handle;
  struct Shared {  // memory of the WAL index; dead handles still point to it
    std::vector<std::unique_ptr<char[]>> regions;
    int locks[8] = {};  // holders; -1: one, exclusive
  };
  struct File {
    std::string bytes;    // as every process sees it
    std::string durable;  // as it is after a power cut, at worst
    std::vector<Range> unsynced;
    bool durable_name = false;  // its directory entry was synced
    std::vector<Handle*> handles;
    std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  };
  using FilePtr = std::shared_ptr<File>;

  // What an operation that changes the disk may do.
  enum class Verdict { kGoOn, kDie };
  Verdict CountOperation();
  bool Take(Fault fault);
  int Write(Handle& handle, const char* data, int64_t size, int64_t offset);
  int Truncate(Handle& handle, int64_t size);
  int Sync(Handle& handle);
  int Delete(const std::string& name, bool sync_directory);
  static void Put(File& file, const char* data, int64_t size, int64_t offset);
  // What the disk kept of a file when power went.
  std::string Remains(const File& file);
  void KeepSector(const File& file, Range sector, std::string& remains);

  Random random_;
  const std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  std::map<std::string, FilePtr> files_;
  std::vector<std::pair<std::string, FilePtr>> deleted_;  // not synced
  bool alive_ = true;                                     // the process
  uint64_t life_ = 0;  // its number: older handles are dead
  int last_errno_ = 0;
  int64_t capacity_ = int64_t{1} << 40;
  int64_t reserved_ = 0;
  std::vector<Fault> faults_;
  int kill_after_ = 0;
  std::function<void()> died_;
  int64_t num_syncs_ = 0;
  int64_t num_operations_ = 0;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_MEMORY_VFS_H_
