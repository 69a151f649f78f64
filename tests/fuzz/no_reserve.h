#ifndef QSWEEP_TESTS_FUZZ_NO_RESERVE_H_
#define QSWEEP_TESTS_FUZZ_NO_RESERVE_H_

#include "coordinator/store/database_file.h"

namespace qsweep::fuzz {

// Keeps no space aside: 64 MB for each of thousands of stores.
class NoReserve : public Reserve {
 public:
  bool Take() override { return true; }
  void Free() override {}
};

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_NO_RESERVE_H_
