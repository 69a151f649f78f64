#ifndef QSWEEP_COORDINATOR_ANALYSIS_POWER_H_
#define QSWEEP_COORDINATOR_ANALYSIS_POWER_H_

#include <cstdint>

namespace qsweep::analysis {

inline constexpr double kNormal975 = 1.959963984540054;
inline constexpr double kNormal80 = 0.8416212335729143;

// Units needed, beyond the `units` there are, for an effect of this size to
// leave 0 outside its interval with 80% probability. critical: half the
// interval's width in standard errors. effect 0: UINT32_MAX.
uint32_t UnitsMore(int units, double effect, double standard_error,
                   double critical = kNormal975);

// The smallest effect that would be found with 80% probability.
double MinimumDetectable(double standard_error);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_POWER_H_
