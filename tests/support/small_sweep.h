#ifndef QSWEEP_TESTS_SUPPORT_SMALL_SWEEP_H_
#define QSWEEP_TESTS_SUPPORT_SMALL_SWEEP_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "common/job/corpus.h"
#include "common/job/model_description_proto.h"
#include "common/rpc/coordinator_client.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {

// A corpus "texts" of two languages and three units.
inline CorpusData SmallCorpusData() {
  std::vector<LanguageText> languages;
  for (const char* code : {"eng", "fra"}) {
    LanguageText& language = languages.emplace_back();
    language.corpus.set_language(code);
    for (int i = 1; i <= 3; ++i) {
      v1::Document* document = language.corpus.add_documents();
      document->set_id(absl::StrCat(i));
      document->set_text(absl::StrCat("Article ", i, " in ", code, "."));
    }
  }
  auto corpus = MakeCorpus("texts", std::move(languages), {});
  EXPECT_EQ(corpus.status(), absl::OkStatus());
  return *std::move(corpus);
}

// Two layers, four configurations, 24 measurements.
inline v1::SubmitJobRequest SmallSweepRequest() {
  v1::SubmitJobRequest request;
  request.set_job_uuid(SecureRandomBytes(16));
  request.set_owner("ada");
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec.set_name("sweep");
  spec.add_models()->set_path("/models/tiny");
  spec.add_quantizers("rtn:bits=4,group=4");
  spec.add_layer_sets()->set_protect("each");
  spec.set_layers("all");
  spec.set_corpus("texts");
  spec.set_reference("eng");
  spec.add_evals()->set_eval("aligned");
  spec.set_compute(v1::COMPUTE_FP32);
  *request.add_models() = ToProto(LlamaDescription("tiny", {.layers = 2}));
  return request;
}

// Stores a corpus.
inline void AddCorpusData(CoordinatorClient& client, const CorpusData& corpus) {
  for (const std::string& artifact : corpus.artifacts) {
    QSWEEP_ASSERT_OK(client.PutArtifact(artifact));
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = corpus.corpus;
  QSWEEP_ASSERT_OK(client.AddCorpus(request));
}

inline void AddSmallCorpus(CoordinatorClient& client) {
  AddCorpusData(client, SmallCorpusData());
}

inline void SubmitSmallSweep(CoordinatorClient& client) {
  AddSmallCorpus(client);
  QSWEEP_ASSERT_OK(client.SubmitJob(SmallSweepRequest()));
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SMALL_SWEEP_H_
