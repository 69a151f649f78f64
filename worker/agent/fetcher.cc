#include "worker/agent/fetcher.h"

#include <cstdio>
#include <cstring>
#include <errno.h>
#include <fstream>
#include <iterator>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

constexpr absl::Duration kFetchPatience = absl::Minutes(2);

absl::Status CheckReadable(const std::string& path, const char* what) {
  return access(path.c_str(), R_OK) == 0
             ? absl::OkStatus()
             : MakeError(kModelNotFound,
                         absl::StrCat("no ", what, " at '", path,
                                      "' on this worker: ", strerror(errno)),
                         what,
                         absl::StrCat("put the ", what,
                                      " at the same path on every worker"));
}

// The ready checkpoints that quantizers name.
absl::Status LocateCheckpoints(const v1::TaskSpec& task) {
  for (const v1::ConfigurationSpec& configuration : task.configurations()) {
    // Errors in its text are the engine's to tell.
    const auto quantizer = ParseQuantizer(configuration.quantizer());
    if (quantizer.ok() && !quantizer->checkpoint_path.empty()) {
      QSWEEP_RETURN_IF_ERROR(
          CheckReadable(quantizer->checkpoint_path, "checkpoint"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> LocateModel(const v1::TaskSpec& task) {
  const v1::ModelReference& model = task.model();
  if (model.path().empty()) {
    return MakeError(kModelNotFound,
                     absl::StrCat("this worker cannot download the model '",
                                  model.id(), "'"),
                     "model", "submit a local directory or .gguf file");
  }
  QSWEEP_RETURN_IF_ERROR(CheckReadable(model.path(), "model"));
  return model.path();
}

}  // namespace

Fetcher::Fetcher(std::string cache_directory, WorkerClient* client,
                 Sleeper sleeper)
    : cache_directory_(std::move(cache_directory)),
      client_(client),
      sleeper_(std::move(sleeper)),
      random_(static_cast<uint64_t>(getpid())) {}

absl::StatusOr<std::shared_ptr<const v1::EngineRun>> Fetcher::Fetch(
    const v1::TaskSpec& task) {
  auto run = std::make_shared<v1::EngineRun>();
  *run->mutable_task() = task;
  QSWEEP_ASSIGN_OR_RETURN(*run->mutable_model_path(), LocateModel(task));
  QSWEEP_RETURN_IF_ERROR(LocateCheckpoints(task));
  for (const v1::TaskLanguage& language : task.languages()) {
    QSWEEP_ASSIGN_OR_RETURN(const Digest digest,
                            Digest::FromBytes(language.artifact_digest()));
    QSWEEP_ASSIGN_OR_RETURN(const std::string bytes, GetArtifact(digest));
    QSWEEP_ASSIGN_OR_RETURN(*run->add_languages(), ParseLanguageCorpus(bytes));
    if (run->languages().rbegin()->language() != language.language()) {
      return MakeError(kArtifactMismatch,
                       absl::StrCat("artifact ", digest.hex(),
                                    " is not the corpus of language '",
                                    language.language(), "'"));
    }
  }
  return run;
}

absl::StatusOr<std::string> Fetcher::GetArtifact(const Digest& digest) {
  const std::string path = absl::StrCat(cache_directory_, "/", digest.hex());
  {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)),
                      std::istreambuf_iterator<char>());
    if (file.is_open() && Digest::Of(bytes) == digest) {
      return bytes;
    }
  }
  std::string bytes;
  QSWEEP_RETURN_IF_ERROR(RetryWhileUnavailable(
      {}, Clock::Real().SteadyNow() + kFetchPatience, Clock::Real(), sleeper_,
      random_, [&] {
        absl::StatusOr<std::string> got = client_->GetArtifact(digest);
        if (got.ok()) {
          bytes = *std::move(got);
        }
        return got.status();
      }));
  // Without the cache the task runs all the same.
  if (const absl::Status stored = StoreInCache(path, bytes); !stored.ok()) {
    LogWarning(stored.message());
  }
  return bytes;
}

// Under another name first, so that a file with a digest's name is whole.
absl::Status Fetcher::StoreInCache(const std::string& path,
                                   const std::string& bytes) {
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot write '", path, "': ", strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
