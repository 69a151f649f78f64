#include "common/base/log.h"

#include <memory>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace qsweep {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "qsweep", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %L %n %v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

void Write(spdlog::level::level_enum level, absl::string_view line) {
  Logger().log(level, "{}", fmt::string_view(line.data(), line.size()));
}

}  // namespace

void LogInfo(absl::string_view line) { Write(spdlog::level::info, line); }
void LogWarning(absl::string_view line) { Write(spdlog::level::warn, line); }
void LogError(absl::string_view line) { Write(spdlog::level::err, line); }

void SetLogName(absl::string_view name) {
  Logger().set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %L " + std::string(name) +
                       " %v");
}

void SilenceLog() { Logger().set_level(spdlog::level::off); }

}  // namespace qsweep
