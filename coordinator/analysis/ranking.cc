#include "coordinator/analysis/ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "common/base/check.h"
#include "coordinator/analysis/power.h"
#include "coordinator/analysis/ratio_bootstrap.h"

namespace qsweep::analysis {
namespace {

// Resamples that a thread takes at a time.
constexpr size_t kChunk = 64;

// A variance below this is rounding of an exact 0.
constexpr double kRoundingVariance = 1e-14;
// A difference of recoveries below this is rounding too.
constexpr double kRounding = 1e-7;

double Error(double variance) {
  return variance > kRoundingVariance ? std::sqrt(variance) : 0;
}

// Worst recovery of every layer, and the covariances of these, under one set of
// unit weights.
struct Draw {
  std::vector<double> worst;       // [layers]
  std::vector<int> language;       // [layers]
  std::vector<double> covariance;  // [layers, layers]
  double average_worst = 0;
  std::vector<double> average_covariance;  // of each layer with the average
  double average_variance = 0;

  size_t size() const { return worst.size(); }
  double average_contrast(size_t i) const { return worst[i] - average_worst; }
  double average_error(size_t i) const {
    return Error(covariance[i * size() + i] - 2 * average_covariance[i] +
                 average_variance);
  }
  double pair_contrast(size_t i, size_t j) const { return worst[i] - worst[j]; }
  double pair_error(size_t i, size_t j) const {
    return Error(covariance[i * size() + i] - 2 * covariance[i * size() + j] +
                 covariance[j * size() + j]);
  }
};

double WeightedSum(const std::vector<double>& values,
                   const std::vector<double>& weights) {
  double sum = 0;
  for (size_t unit = 0; unit < values.size(); ++unit) {
    sum += weights[unit] * values[unit];
  }
  return sum;
}

void AddAverages(Draw& draw) {
  const size_t size = draw.size();
  const double share = 1.0 / static_cast<double>(size);
  draw.average_worst =
      share * std::accumulate(draw.worst.begin(), draw.worst.end(), 0.0);
  draw.average_covariance.assign(size, 0.0);
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j < size; ++j) {
      draw.average_covariance[i] += share * draw.covariance[i * size + j];
    }
    draw.average_variance += share * draw.average_covariance[i];
  }
}

// Four sums side by side: a single one would wait for each addition.
double Dot(const double* a, const double* b, size_t size) {
  double sums[4] = {};
  size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) {
      sums[lane] += a[i + lane] * b[i + lane];
    }
  }
  for (; i < size; ++i) {
    sums[0] += a[i] * b[i];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// influence: [layers, units], the linear approximations of worst recovery times
// the root of the weights.
void AddCovariance(const std::vector<double>& influence, size_t units,
                   Draw& draw) {
  const size_t layers = draw.size();
  const double n = static_cast<double>(units);
  draw.covariance.resize(layers * layers);
  for (size_t i = 0; i < layers; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      draw.covariance[i * layers + j] = draw.covariance[j * layers + i] =
          n / (n - 1) *
          Dot(&influence[i * units], &influence[j * units], units);
    }
  }
}

Draw Evaluate(const RankingInput& input, const std::vector<double>& weights) {
  const size_t layers = input.layers.size();
  const size_t units = weights.size();
  std::vector<double> none;
  for (const std::vector<double>& values : input.none) {
    none.push_back(WeightedSum(values, weights));
  }
  std::vector<double> roots;
  for (const double weight : weights) {
    roots.push_back(std::sqrt(weight));
  }
  Draw draw;
  std::vector<double> influence(layers * units);
  for (size_t layer = 0; layer < layers; ++layer) {
    double greatest = 0;  // lost share, in the worst language
    size_t worst = 0;
    for (size_t l = 0; l < none.size(); ++l) {
      const double lost =
          WeightedSum(input.layers[layer][l], weights) / none[l];
      if (l == 0 || lost > greatest) {
        greatest = lost;
        worst = l;
      }
    }
    draw.worst.push_back(1 - greatest);
    draw.language.push_back(static_cast<int>(worst));
    const std::vector<double>& values = input.layers[layer][worst];
    for (size_t unit = 0; unit < units; ++unit) {
      influence[layer * units + unit] =
          roots[unit] * (values[unit] - greatest * input.none[worst][unit]) /
          none[worst];
    }
  }
  AddCovariance(influence, units, draw);
  AddAverages(draw);
  return draw;
}

// How many standard errors the simultaneous intervals reach.
struct Critical {
  double average = 0;
  double pair = 0;
};

// The largest t of one resample.
struct Largest {
  double average = 0;
  double pair = 0;
};

Largest LargestOf(const RankingInput& input, const Draw& point,
                  std::span<const uint16_t> counts) {
  // A resample without a finite statistic, or a pair that does not differ at
  // all, says nothing.
  const auto raise = [](double& max, double drawn, double value, double error) {
    const double t = std::abs(drawn - value) / error;
    max = std::isfinite(t) ? std::max(max, t) : max;
  };
  const Draw drawn =
      Evaluate(input, std::vector<double>(counts.begin(), counts.end()));
  Largest largest;
  for (size_t i = 0; i < point.size(); ++i) {
    raise(largest.average, drawn.average_contrast(i), point.average_contrast(i),
          drawn.average_error(i));
    for (size_t j = 0; j < i; ++j) {
      raise(largest.pair, drawn.pair_contrast(i, j), point.pair_contrast(i, j),
            drawn.pair_error(i, j));
    }
  }
  return largest;
}

Critical FindCritical(const RankingInput& input, const Draw& point,
                      const Resamples& resamples, double confidence,
                      const Work& work) {
  std::vector<Largest> largest(static_cast<size_t>(resamples.count()));
  ForEachPart(work, (largest.size() + kChunk - 1) / kChunk, [&](size_t chunk) {
    const size_t end = std::min(largest.size(), (chunk + 1) * kChunk);
    for (size_t b = chunk * kChunk; b < end && !work.stopped(); ++b) {
      if (resamples.usable(static_cast<int>(b))) {
        largest[b] =
            LargestOf(input, point, resamples.weights(static_cast<int>(b)));
      }
    }
  });
  std::vector<double> average_max;
  std::vector<double> pair_max;
  for (size_t b = 0; b < largest.size(); ++b) {
    if (resamples.usable(static_cast<int>(b))) {
      average_max.push_back(largest[b].average);
      pair_max.push_back(largest[b].pair);
    }
  }
  if (average_max.empty()) {
    return {std::numeric_limits<double>::max(),
            std::numeric_limits<double>::max()};
  }
  return {UpperQuantile(average_max, confidence),
          UpperQuantile(pair_max, confidence)};
}

Standing StandingOf(const Estimate& contrast, double noise) {
  if (std::abs(*contrast.value) < noise) {
    return Standing::kNotTold;
  }
  if (*contrast.low > kRounding) {
    return Standing::kAbove;
  }
  return *contrast.high < -kRounding ? Standing::kBelow : Standing::kNotTold;
}

// separated(i, j): by rank, 0-based.
template <typename Separated>
void Group(const std::vector<RankedLayer*>& by_rank,
           const Separated& separated) {
  int next = 0;
  int not_told = 0;
  // Members of a standing so far, by rank.
  std::vector<size_t> members[4];
  const auto all_separated = [&](const std::vector<size_t>& above, size_t rank,
                                 Standing standing) {
    for (size_t below = rank; below < by_rank.size(); ++below) {
      for (const size_t other : above) {
        if (by_rank[below]->standing == standing && !separated(other, below)) {
          return false;
        }
      }
    }
    return true;
  };
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    RankedLayer& layer = *by_rank[rank];
    if (layer.standing == Standing::kNotTold) {
      not_told = not_told == 0 ? ++next : not_told;
      layer.group = not_told;
      continue;
    }
    std::vector<size_t>& above = members[static_cast<int>(layer.standing)];
    layer.group = all_separated(above, rank, layer.standing)
                      ? ++next
                      : by_rank[above.back()]->group;
    above.push_back(rank);
  }
}

std::optional<uint32_t> MedianUnitsMore(const Ranking& ranking, int units,
                                        double critical) {
  std::vector<uint32_t> more;
  for (const RankedLayer& layer : ranking.layers) {
    if (layer.standing == Standing::kNotTold) {
      more.push_back(UnitsMore(units, *layer.average_contrast.value,
                               *layer.average_contrast.standard_error,
                               critical));
    }
  }
  if (more.empty()) {
    return std::nullopt;
  }
  const auto middle =
      more.begin() + static_cast<std::ptrdiff_t>((more.size() - 1) / 2);
  std::nth_element(more.begin(), middle, more.end());
  return *middle;
}

}  // namespace

Ranking RankLayers(const RankingInput& input, const Resamples& resamples,
                   double confidence, const Work& work) {
  const size_t size = input.layers.size();
  QSWEEP_CHECK(size >= 2 && !input.none.empty() &&
               resamples.units() >= kMinimumUnits);
  const Draw point = Evaluate(
      input, std::vector<double>(static_cast<size_t>(resamples.units()), 1.0));
  const Critical critical =
      FindCritical(input, point, resamples, confidence, work);
  Ranking ranking;
  ranking.layers.resize(size);
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return point.worst[a] > point.worst[b];
  });
  std::vector<RankedLayer*> by_rank;
  for (const size_t i : order) {
    RankedLayer& layer = ranking.layers[i];
    const double contrast = point.average_contrast(i);
    const double error = point.average_error(i);
    layer.worst_recovery = point.worst[i];
    layer.worst_language = point.language[i];
    layer.average_contrast = {.value = contrast,
                              .low = contrast - critical.average * error,
                              .high = contrast + critical.average * error,
                              .standard_error = error};
    layer.standing = StandingOf(layer.average_contrast, input.noise);
    by_rank.push_back(&layer);
    layer.rank = static_cast<int>(by_rank.size());
  }
  const auto separated = [&](size_t a, size_t b) {
    const double apart = std::abs(point.pair_contrast(order[a], order[b]));
    return apart >= input.noise &&
           apart >
               kRounding + critical.pair * point.pair_error(order[a], order[b]);
  };
  Group(by_rank, separated);
  bool resolved = true;
  for (size_t rank = 0; resolved && rank + 1 < size; ++rank) {
    for (size_t below = rank + 1; below < size; ++below) {
      resolved = resolved && separated(rank, below);
    }
    ranking.resolved_ranks += resolved ? 1 : 0;
  }
  if (resolved) {
    ranking.resolved_ranks = static_cast<int>(size);
  }
  ranking.units_more =
      MedianUnitsMore(ranking, resamples.units(), critical.average);
  return ranking;
}

}  // namespace qsweep::analysis
