#include "tests/support/sweep_requests.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {

CorpusData SmallCorpus(int units) {
  std::vector<LanguageText> languages;
  for (const char* code : {"eng", "swh"}) {
    LanguageText& language = languages.emplace_back();
    language.corpus.set_language(code);
    for (int i = 0; i < units; ++i) {
      v1::Document& document = *language.corpus.add_documents();
      document.set_id(absl::StrCat(i));
      document.set_text(absl::StrCat(code, " text ", i));
    }
  }
  return *MakeCorpus("texts", std::move(languages), {});
}

v1::SubmitJobRequest SweepRequest(const SweepOptions& options) {
  v1::SubmitJobRequest request;
  request.set_job_uuid(Digest::Of("job " + options.uuid).bytes().substr(0, 16));
  request.set_owner(options.owner);
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec.set_name("sweep-" + options.uuid);
  const ModelDescription model = TinyLlamaDescription(options.layers);
  spec.add_models()->set_path("/models/" + model.name);
  *request.add_models() = ToProto(model);
  spec.add_quantizers("rtn:group=4");
  spec.set_layers(options.layer_range);
  spec.set_corpus("texts");
  spec.set_reference("eng");
  spec.mutable_policy()->set_reuse(options.reuse);
  FillJobSpecDefaults(spec);
  return request;
}

v1::TaskResult HonestResult(const v1::TaskSpec& spec) {
  v1::TaskResult result;
  for (int c = 0; c < spec.configurations_size(); ++c) {
    for (int d = 0; d < spec.documents_size(); ++d) {
      const std::string key = Digest::Of(spec.configurations(c).digest() +
                                         spec.documents(d).digest())
                                  .bytes();
      v1::Measurement& row = *result.add_rows();
      row.set_configuration_index(static_cast<uint32_t>(c));
      row.set_document_index(static_cast<uint32_t>(d));
      row.set_status(v1::ROW_STATUS_OK);
      row.set_nll_sum(1.0 + static_cast<unsigned char>(key[0]) / 256.0);
      row.set_nll_fp_sum(1.0 + static_cast<unsigned char>(key[1]) / 256.0);
      row.set_tokens(5);
    }
  }
  result.mutable_report()->set_engine("test engine");
  return result;
}

v1::ResultEnvelope EnvelopeOf(const v1::TaskSpec& spec, uint64_t epoch,
                              const v1::TaskResult& result) {
  v1::ResultEnvelope envelope;
  envelope.set_task_id(spec.task_id());
  envelope.set_epoch(epoch);
  envelope.set_content_key(spec.content_key());
  envelope.set_payload(result.SerializeAsString());
  envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
  return envelope;
}

}  // namespace qsweep::testing
