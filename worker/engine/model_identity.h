#ifndef QSWEEP_WORKER_ENGINE_MODEL_IDENTITY_H_
#define QSWEEP_WORKER_ENGINE_MODEL_IDENTITY_H_

#include <string>

namespace qsweep {

// Changes when a file of the model is replaced or written to: names, sizes,
// times and inodes of the file, or of all files of the directory. What cannot
// be read counts as empty.
std::string IdentityOfModel(const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_MODEL_IDENTITY_H_
