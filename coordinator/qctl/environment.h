#ifndef QSWEEP_COORDINATOR_QCTL_ENVIRONMENT_H_
#define QSWEEP_COORDINATOR_QCTL_ENVIRONMENT_H_

#include <iosfwd>
#include <map>
#include <string>

namespace qsweep::qctl {

// What qctl is run in: everything it reads of its process. main.cc fills in
// the real one, tests their own. The streams are borrowed.
struct Environment {
  std::map<std::string, std::string> variables;
  std::istream* in = nullptr;
  std::ostream* out = nullptr;  // data
  std::ostream* err = nullptr;  // messages
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  int width = 0;            // columns of the terminal; 0: no terminal
  int height = 0;           // its lines
  std::string working_dir;  // absolute
  std::string binary_dir;  // absolute; where qcoordinator, qworker, qengine are
  bool handle_signals = false;  // Ctrl-C detaches; false leaves signals alone

  // "" when it is not set.
  std::string Get(const std::string& name) const {
    const auto found = variables.find(name);
    return found == variables.end() ? "" : found->second;
  }
  // What outlives a command: XDG_STATE_HOME, else ~/.local/state, qsweep.
  std::string StateDir() const {
    const std::string xdg = Get("XDG_STATE_HOME");
    return (xdg.empty() ? Get("HOME") + "/.local/state" : xdg) + "/qsweep";
  }
};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_ENVIRONMENT_H_
