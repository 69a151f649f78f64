#include <filesystem>
#include <iostream>
#include <string>
#include <unistd.h>
#include <vector>

#include <sys/ioctl.h>

#include "coordinator/qctl/qctl.h"

namespace {

qsweep::qctl::Environment RealEnvironment(char** variables) {
  qsweep::qctl::Environment environment;
  for (char** variable = variables; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) {
      environment.variables[text.substr(0, equals)] = text.substr(equals + 1);
    }
  }
  environment.in = &std::cin;
  environment.out = &std::cout;
  environment.err = &std::cerr;
  environment.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  environment.err_is_terminal = isatty(STDERR_FILENO) == 1;
  winsize size = {};
  if (environment.out_is_terminal &&
      ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
    environment.width = size.ws_col;
    environment.height = size.ws_row;
  }
  std::error_code error;  // an unreadable folder leaves the path empty
  environment.working_dir = std::filesystem::current_path(error).string();
  environment.binary_dir =
      std::filesystem::read_symlink("/proc/self/exe", error)
          .parent_path()
          .string();
  environment.handle_signals = true;
  return environment;
}

}  // namespace

int main(int argc, char** argv) {
  return qsweep::qctl::RunQctl(std::vector<std::string>(argv + 1, argv + argc),
                               RealEnvironment(environ));
}
