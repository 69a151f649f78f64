#include "worker/engine/pass.h"

#include <algorithm>
#include <cmath>

#include "worker/model/config.h"

namespace qsweep {

void DocumentSums::Add(const kernels::TokenScore& score) {
  ++tokens;
  if (!std::isfinite(score.nll) || !std::isfinite(score.nll_fp)) {
    ++nonfinite;
    return;
  }
  nll += score.nll;
  nll_fp += score.nll_fp;
  if (std::isfinite(score.kl)) {
    kl += score.kl;
  }
  top1 += score.top1 ? 1 : 0;
}

PassRows::PassRows(const Pass& pass) {
  for (const std::span<const int32_t> ids : pass.documents) {
    const auto rows = static_cast<int64_t>(ids.size()) - 1;
    documents.push_back({.first = count(), .count = rows});
    gold.insert(gold.end(), ids.begin() + 1, ids.end());
    longest = std::max(longest, rows);
  }
}

double LayerWork(const ModelConfig& config) {
  const double attention =
      2.0 * (config.heads + config.kv_heads) * config.head_dim;
  return config.hidden_size * (attention + 3.0 * config.intermediate_size);
}

double HeadWork(const ModelConfig& config) {
  return static_cast<double>(config.hidden_size) * config.vocabulary_size;
}

}  // namespace qsweep
