#ifndef QSWEEP_WORKER_MODEL_MODEL_CACHE_H_
#define QSWEEP_WORKER_MODEL_MODEL_CACHE_H_

#include <optional>
#include <string>

namespace qsweep {

// Changes when the file is replaced or written to: size, modification time,
// inode and place, in one line. "": it cannot be read.
std::string IdentityOfFile(const std::string& path);

// Small facts about models, a file each in `directory`, which is made when
// missing. Safe beside other processes; what cannot be written costs only time.
// key, value: a line. A fact whose key is another one is none.
std::optional<std::string> FindFact(const std::string& directory,
                                    const std::string& name,
                                    const std::string& key);
void KeepFact(const std::string& directory, const std::string& name,
              const std::string& key, const std::string& value);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_MODEL_CACHE_H_
