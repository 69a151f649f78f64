#include "coordinator/analysis/power.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qsweep::analysis {

uint32_t UnitsMore(int units, double effect, double standard_error,
                   double critical) {
  const double most = std::numeric_limits<uint32_t>::max();
  const double ratio = (critical + kNormal80) * standard_error / effect;
  const double more = std::ceil(units * ratio * ratio) - units;
  return std::isfinite(more)
             ? static_cast<uint32_t>(std::clamp(more, 0.0, most))
             : std::numeric_limits<uint32_t>::max();
}

double MinimumDetectable(double standard_error) {
  return (kNormal975 + kNormal80) * standard_error;
}

}  // namespace qsweep::analysis
