#ifndef QSWEEP_TESTS_COORDINATOR_QCTL_OUTCOME_H_
#define QSWEEP_TESTS_COORDINATOR_QCTL_OUTCOME_H_

#include <string>

namespace qsweep::testing {

// What a command line came to.
struct Outcome {
  int code = 0;  // exit status
  std::string out;
  std::string err;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_COORDINATOR_QCTL_OUTCOME_H_
