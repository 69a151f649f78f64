#ifndef QSWEEP_COORDINATOR_ANALYSIS_PANEL_H_
#define QSWEEP_COORDINATOR_ANALYSIS_PANEL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qsweep::analysis {

// What goes into and comes out of AnalyzePanel (analyze.h). Plain values; the
// formulas behind every field are in docs/metrics.md.

enum class RowStatus { kOk, kOneToken, kTooLong, kEmpty };

// One stored measurement. Other than kOk: no sums.
struct Row {
  int configuration = 0;        // index into PanelInput::configurations
  int replicate = 0;            // index into the configuration's replicates
  int language = 0;             // index into PanelInput::languages
  std::string unit;             // aligned id
  std::string document_digest;  // hex
  RowStatus status = RowStatus::kOk;
  double nll_sum = 0;          // nats
  double nll_fp_sum = 0;       // nats; the baseline's, same task and device
  double unigram_nll_sum = 0;  // nats
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  uint64_t bytes_scored = 0;
  uint64_t chars = 0;
  std::optional<double> kl_sum;  // nats
  std::optional<double> top1;    // tokens; a fraction where averaged
  uint64_t nonfinite = 0;        // tokens that are in `tokens` but in no sum
};

// One draw of a configuration's rounding noise.
struct Replicate {
  int number = 0;      // of the quantizer: 0 has no shift
  std::string digest;  // hex
};

struct ConfigurationInput {
  std::string digest;        // hex; of the first replicate
  std::string layer_set;     // as written
  std::string resolved;      // on the model: "L0+L22+L29"
  std::string quantizer;     // text; "fp" for the baseline
  std::optional<int> layer;  // when exactly one whole layer is protected
  bool baseline = false;     // quantizes nothing
  bool unprotected = false;  // `none`: the anchor of recovery
  // In the order of the job; empty: `digest` is the only one.
  std::vector<Replicate> replicates = {};
  double overhead_params = 0;
  double overhead_layers = 0;
  double overhead_kept = 0;
  double overhead_bytes = 0;
};

// One (model, quantizer, evaluation, compute): the rows that are compared with
// one another. (configuration, replicate, language, unit) is unique among the
// rows; rows may be missing while the job runs.
struct PanelInput {
  std::string model;         // for people
  std::string model_digest;  // hex
  std::string quantizer;
  std::vector<int> replicates = {0};  // of the quantizer, ascending
  std::string evaluation;             // canonical text: "aligned@1;tok=..."
  std::string compute;                // "fp32"
  std::string corpus;
  int layers = 0;
  int vocabulary_size = 0;
  std::string prequantized;  // "", "prequantized", "prequantized8"
  // What the order of sums moves, nats per token; 0: not measured.
  double noise_floor = 0;
  std::vector<std::string> languages;
  int reference = -1;  // index into languages; -1: none of them
  std::vector<ConfigurationInput> configurations;
  std::vector<Row> rows;
  uint64_t rows_stored = 0;    // 0: as many as `rows`
  uint64_t rows_expected = 0;  // 0: configurations x languages x units seen
};

// What the disparity column does where the reference did not degrade.
enum class RefRule { kOne, kInf, kZero };

struct Options {
  RefRule ref_rule = RefRule::kOne;
  double confidence = 0.95;  // in (0, 1)
  int resamples = 10000;     // >= 1
  uint64_t seed = 0;         // the job's
};

// Why an estimate lacks its interval or its value; names by StatusName.
enum class EstimateStatus {
  kOk,
  kFewUnits,  // a value without an interval
  kPending,   // rows still to come
  kNoRows,
  kNonfinite,
  kUnlearned,
  kReferenceUnlearned,
  kReferenceMissing,
  kUndefined,   // a denominator is not above its floor, or not every token
                // scored
  kBelowNoise,  // the denominator is not above the arithmetic noise
  kReference,   // the cell is the reference itself
  kAnchor,      // the configuration is `none`
  kBaseline,
};

struct Estimate {
  std::optional<double> value;
  std::optional<double> low;
  std::optional<double> high;
  std::optional<double> standard_error;
  EstimateStatus status = EstimateStatus::kOk;
};

// A number's values over the replicates, each taken by itself.
struct Spread {
  double mean = 0;
  double standard_deviation = 0;  // over n - 1
  int replicates = 0;             // n, at least 2
};

enum class Verdict {
  kNone,  // there is no gap
  kWorse,
  kBetter,
  kNotResolved,
  kUnitConflict,
  kExploratory,
};

enum class Standing { kNone, kAbove, kBelow, kNotTold };

struct LanguageResult {
  std::string language;
  EstimateStatus status = EstimateStatus::kOk;
  std::vector<std::string> flags;  // unlearned, short, nonfinite
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  double nll_fp_per_token = 0;       // nats
  double nll_unigram_per_token = 0;  // nats
  double ppl_fp = 0;
  double n_eff = 0;
  std::optional<uint32_t> units_more;
  double minimum_detectable = 0;  // bits per unit; 0: not defined
};

struct CellResult {
  std::vector<std::string> flags;
  Verdict verdict = Verdict::kNone;
  Estimate delta_nll;
  Estimate bits_per_unit;
  Estimate relative_loss;
  Estimate bits_per_byte;
  Estimate recovery;
  Estimate recovery_contrast;
  Estimate interaction;
  Estimate gap_delta_nll;
  Estimate gap_bits_per_unit;
  Estimate gap_relative_loss;
  Estimate gap_bits_per_byte;
  Estimate anchored_gap_bits_per_unit;
  Estimate anchored_gap_relative_loss;
  std::optional<double> kl_per_token;
  std::optional<double> top1_agreement;
  std::optional<double> nll_per_token;
  std::optional<double> ppl;                  // infinite where too large
  std::optional<double> degradation_percent;  // likewise
  std::optional<double> disparity;
  std::optional<Spread> delta_nll_spread;
  std::optional<Spread> recovery_spread;
};

struct ConfigurationResult {
  std::vector<CellResult> cells;  // parallel to PanelInput::languages
  std::vector<std::string> flags;
  uint32_t rows_missing = 0;  // of several replicates: documents that lack one
  Estimate worst_recovery;
  std::string worst_language;
  Estimate average_contrast;
  Standing standing = Standing::kNone;
  int rank = 0;   // 1 is best; 0: not ranked
  int group = 0;  // 1..; 0: not ranked
  std::optional<double> mean_kl;
  std::optional<double> average_disparity;
  std::optional<double> max_disparity;
  std::optional<Spread> worst_recovery_spread;
  std::optional<Spread> average_contrast_spread;
};

struct PanelResult {
  std::vector<LanguageResult> languages;            // parallel to the input
  std::vector<ConfigurationResult> configurations;  // parallel to the input
  std::vector<std::string> flags;  // prequantized, prequantized8, exploratory
  std::vector<std::string> notes;  // sentences for people
  uint64_t units = 0;
  uint64_t units_dropped = 0;
  uint64_t rows = 0;
  uint64_t rows_expected = 0;
  double n_eff = 0;  // the smallest over the languages that are used
  int resolved_ranks = 0;
  int single_layers = 0;  // ranked
  std::optional<uint32_t> units_more_layers;
};

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_PANEL_H_
