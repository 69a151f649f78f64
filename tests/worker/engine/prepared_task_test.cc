#include "worker/engine/prepared_task.h"

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/forwarding_checkpoint.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"

namespace qsweep {
namespace {

using testing::ForwardingCheckpoint;
using testing::TempDir;
using testing::TinyLlama;

// Asks for a stop while it encodes its `last` text.
class StoppingTokenizer : public Tokenizer {
 public:
  StoppingTokenizer(const Tokenizer& tokenizer, int last)
      : tokenizer_(tokenizer), last_(last) {}

  std::vector<int32_t> Encode(absl::string_view text) const override {
    Count();
    return tokenizer_.Encode(text);
  }
  std::vector<int32_t> EncodeWithSpecial(
      absl::string_view text) const override {
    Count();
    return tokenizer_.EncodeWithSpecial(text);
  }
  std::string TokenBytes(int32_t id) const override {
    return tokenizer_.TokenBytes(id);
  }
  int vocabulary_size() const override { return tokenizer_.vocabulary_size(); }
  std::optional<int32_t> bos() const override { return tokenizer_.bos(); }
  std::optional<int32_t> eos() const override { return tokenizer_.eos(); }
  const Digest& digest() const override { return tokenizer_.digest(); }

  int encoded() const { return encoded_; }
  std::stop_token stop() const { return stop_.get_token(); }

 private:
  void Count() const {
    if (++encoded_ == last_) {
      stop_.request_stop();
    }
  }

  const Tokenizer& tokenizer_;
  const int last_;
  mutable int encoded_ = 0;
  mutable std::stop_source stop_;
};

class CheckpointWithTokenizer : public ForwardingCheckpoint {
 public:
  CheckpointWithTokenizer(const Checkpoint& checkpoint,
                          const Tokenizer& tokenizer)
      : ForwardingCheckpoint(checkpoint), tokenizer_(tokenizer) {}
  const Tokenizer& tokenizer() const override { return tokenizer_; }

 private:
  const Tokenizer& tokenizer_;
};

TEST(PrepareTask, EncodesNoOtherText_OnceItIsStopped) {
  const TempDir directory;
  TinyLlama().WriteTo(directory);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  const auto model = (*checkpoint)->Describe("");
  QSWEEP_ASSERT_OK(model);
  EngineTask task;
  task.evaluation =
      EvaluationText("aligned", model->tokenizer_digest, 0).value();
  task.configurations = {{.quantizer = "fp", .layer_set = "all"}};
  task.languages = {{.language = "eng", .texts = {"one", "two", "three"}}};
  task.documents = {{.text = 0}};
  task.calibrations = {{.documents = {{.text = 1}, {.text = 2}}}};
  // Two texts of the calibration, then all of the language.
  for (int last = 1; last <= 4; ++last) {
    const StoppingTokenizer tokenizer((*checkpoint)->tokenizer(), last);
    const CheckpointWithTokenizer stopping(**checkpoint, tokenizer);
    EXPECT_EQ(
        PrepareTask(task, stopping, *model, tokenizer.stop()).status().code(),
        absl::StatusCode::kCancelled);
    EXPECT_EQ(tokenizer.encoded(), last);
  }
  const StoppingTokenizer tokenizer((*checkpoint)->tokenizer(), /*last=*/0);
  const CheckpointWithTokenizer whole(**checkpoint, tokenizer);
  QSWEEP_EXPECT_OK(PrepareTask(task, whole, *model, tokenizer.stop()));
  EXPECT_EQ(tokenizer.encoded(), 5);
}

}  // namespace
}  // namespace qsweep
