#include "coordinator/service/job_source.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "common/job/expand_documents.h"

namespace qsweep {
namespace {

using CorpusPointer = std::shared_ptr<const v1::Corpus>;

constexpr size_t kSampleBytes = size_t{4} << 10;
constexpr size_t kAllSamplesBytes = size_t{1} << 20;
constexpr uint64_t kWholeArtifact = uint64_t{1} << 30;

// At most `size` bytes of a language's texts, whole characters.
std::string Beginning(const v1::LanguageCorpus& texts, size_t size) {
  std::string text;
  for (const v1::Document& document : texts.documents()) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", document.text());
    if (text.size() >= size) {
      break;
    }
  }
  if (text.size() > size) {
    const auto is_inside = [](char c) { return (c & 0xc0) == 0x80; };
    while (size > 0 && is_inside(text[size])) {
      --size;
    }
    text.resize(size);
  }
  return text;
}

std::shared_ptr<const PreparedSubmit> Prepare(
    const v1::SubmitJobRequest& request, CorpusPointer corpus,
    CorpusPointer calibration, JobNumber job) {
  absl::StatusOr<PreparedSubmit> prepared =
      PrepareSubmit(request, std::move(corpus), std::move(calibration));
  if (!prepared.ok()) {
    return nullptr;
  }
  prepared->job = job;
  return std::make_shared<const PreparedSubmit>(*std::move(prepared));
}

JobNumber NumberOf(const v1::JobSummary& job) {
  return JobNumber(static_cast<int64_t>(job.job_number()));
}

}  // namespace

std::shared_ptr<const PreparedSubmit> PrepareAhead(
    Reader& reader, const v1::SubmitJobRequest& request) {
  absl::StatusOr<CorpusPointer> corpus =
      reader.ReadCorpus(request.spec().corpus());
  const std::string& named = request.spec().calibration().corpus();
  CorpusPointer calibration;
  if (!named.empty()) {
    calibration = reader.ReadCorpus(named).value_or(nullptr);
  }
  if (!corpus.ok() || (calibration == nullptr && !named.empty())) {
    return nullptr;
  }
  return Prepare(request, *std::move(corpus), std::move(calibration),
                 JobNumber());
}

std::shared_ptr<const PreparedSubmit> PrepareAgainAhead(
    Reader& reader, const v1::JobSummary& job) {
  absl::StatusOr<JobSource> source = reader.ReadJobSource(NumberOf(job));
  if (!source.ok()) {
    return nullptr;
  }
  v1::SubmitJobRequest request;
  request.set_job_uuid(job.job_uuid());
  *request.mutable_spec() = std::move(source->spec);
  request.mutable_models()->Add(source->models.begin(), source->models.end());
  request.mutable_token_rates()->Swap(source->plan.mutable_token_rates());
  return Prepare(request, std::move(source->corpus),
                 std::move(source->calibration_corpus), NumberOf(job));
}

absl::StatusOr<v1::SampleTextsResponse> SampleTextsOf(
    Reader& reader, const v1::SampleTextsRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(const CorpusPointer corpus,
                          reader.ReadCorpus(request.corpus()));
  v1::JobSpec spec;
  *spec.mutable_languages() = request.languages();
  spec.set_reference(request.reference());
  std::vector<std::string> notes;
  QSWEEP_ASSIGN_OR_RETURN(const ChosenLanguages chosen,
                          ChooseLanguages(spec, *corpus, notes));
  const size_t size =
      std::min(kSampleBytes, kAllSamplesBytes / chosen.languages.size());
  v1::SampleTextsResponse response;
  for (const int index : chosen.languages) {
    const v1::CorpusLanguage& language = corpus->languages(index);
    QSWEEP_ASSIGN_OR_RETURN(const Digest digest,
                            Digest::FromBytes(language.artifact_digest()));
    QSWEEP_ASSIGN_OR_RETURN(const ArtifactPart artifact,
                            reader.ReadArtifact(digest, 0, kWholeArtifact));
    QSWEEP_ASSIGN_OR_RETURN(const v1::LanguageCorpus texts,
                            ParseLanguageCorpus(artifact.data));
    v1::TextSample& sample = *response.add_samples();
    sample.set_language(language.language());
    sample.set_text(Beginning(texts, size));
  }
  return response;
}

absl::StatusOr<v1::GetJobResponse> DescribeJob(Reader& reader,
                                               v1::GetJobResponse of_loop) {
  const JobNumber number = NumberOf(of_loop.summary());
  QSWEEP_ASSIGN_OR_RETURN(JobSource source, reader.ReadJobSource(number));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> languages,
                          reader.ReadJobLanguages(number));
  *of_loop.mutable_spec() = std::move(source.spec);
  *of_loop.mutable_plan() = std::move(source.plan);
  of_loop.mutable_models()->Add(source.models.begin(), source.models.end());
  v1::Corpus& chosen = *of_loop.mutable_corpus();
  chosen.set_name(source.corpus->name());
  chosen.set_digest(source.corpus->digest());
  chosen.set_license(source.corpus->license());
  const std::unordered_set<std::string> wanted(languages.begin(),
                                               languages.end());
  for (const v1::CorpusLanguage& language : source.corpus->languages()) {
    if (wanted.contains(language.language())) {
      *chosen.add_languages() = language;
    }
  }
  return of_loop;
}

}  // namespace qsweep
