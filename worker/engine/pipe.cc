#include "worker/engine/pipe.h"

#include <cstddef>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/rpc/failure.h"
#include "common/rpc/frame.h"
#include "worker/eval/evaluation.h"

namespace qsweep {
namespace {

// A digest a frame may leave out.
absl::StatusOr<Digest> OptionalDigest(const std::string& bytes) {
  return bytes.empty() ? Digest() : Digest::FromBytes(bytes);
}

// One end of a conversation: serves requests, owns the running task's stop.
class PipeServer : public EngineSink {
 public:
  PipeServer(Engine& engine, int in_fd, int out_fd,
             const std::function<void()>& on_end)
      : engine_(engine), in_fd_(in_fd), out_fd_(out_fd), on_end_(on_end) {}

  absl::Status Serve() {
    SendReady();
    std::jthread reader([this] { ReadRequests(); });
    while (std::optional<v1::EngineRun> run = NextRun()) {
      RunTask(*run);
    }
    reader.join();
    const MutexLock lock(mutex_);
    return status_;
  }

  void OnProgress(const EngineProgress& progress) override {
    v1::EngineEvent event;
    event.mutable_progress()->set_task_id(task_id_);
    v1::TaskProgress& out = *event.mutable_progress()->mutable_progress();
    out.set_progress_seq(++progress_seq_);
    out.set_phase(progress.loading ? v1::TASK_PHASE_FETCH : v1::TASK_PHASE_RUN);
    out.set_fraction(progress.fraction);
    out.set_text(progress.text);
    for (const EnginePartial& partial : progress.partial) {
      v1::PartialMetric& metric = *out.add_partial();
      metric.set_language(languages_[static_cast<size_t>(partial.language)]);
      metric.set_configuration_index(
          static_cast<uint32_t>(partial.configuration));
      metric.set_nll_sum(partial.nll_sum);
      metric.set_nll_fp_sum(partial.nll_fp_sum);
      metric.set_tokens(partial.tokens);
    }
    Send(event);
  }

 private:
  void SendReady() {
    const EngineInfo& info = engine_.info();
    v1::EngineEvent event;
    v1::EngineReady& ready = *event.mutable_ready();
    ready.set_fingerprint(info.fingerprint);
    ready.set_device(info.device);
    ready.set_memory_bytes(static_cast<uint64_t>(info.memory_bytes));
    ready.set_gflops(info.gflops);
    ready.set_compute_capability(
        static_cast<uint32_t>(info.compute_capability));
    for (const std::string& evaluation : KnownEvaluations()) {
      ready.add_evaluations(evaluation);
    }
    for (const std::string& method : info.methods) {
      ready.add_methods(method);
    }
    for (const Compute compute : info.computes) {
      if (compute != Compute::kFp32) {
        ready.add_computes(ToProto(compute));
      }
    }
    Send(event);
  }

  void Send(const v1::EngineEvent& event) {
    const std::string bytes = event.SerializeAsString();
    const MutexLock lock(write_mutex_);
    const absl::Status status = WriteFrame(out_fd_, bytes);
    if (!status.ok()) {
      End(status);
    }
  }

  void SendFailed(uint64_t task_id, const absl::Status& status) {
    v1::EngineEvent event;
    event.mutable_failed()->set_task_id(task_id);
    *event.mutable_failed()->mutable_failure() =
        FailureFromStatus(status, IsRetryable(status));
    Send(event);
  }

  // The reader thread.
  void ReadRequests() {
    FrameReader frames(in_fd_);
    while (true) {
      absl::StatusOr<std::optional<std::string>> frame = frames.Read();
      v1::EngineRequest request;
      if (!frame.ok() || !frame->has_value()) {
        End(frame.status());
        break;
      }
      if (!request.ParseFromString(**frame)) {
        End(absl::DataLossError("a frame holds no EngineRequest"));
        break;
      }
      switch (request.request_case()) {
        case v1::EngineRequest::kRun:
          Accept(std::move(*request.mutable_run()));
          break;
        case v1::EngineRequest::kCancel:
          Cancel(request.cancel().task_id());
          break;
        default:
          break;  // of a newer agent; nothing that must be answered
      }
    }
    on_end_();
  }

  void Accept(v1::EngineRun run) {
    const uint64_t task_id = run.task().task_id();
    {
      const MutexLock lock(mutex_);
      if (!running_) {
        running_ = task_id;
        stop_ = std::stop_source();
        next_ = std::move(run);
        wake_.NotifyOne();
        return;
      }
    }
    SendFailed(task_id, absl::FailedPreconditionError(
                            "the engine runs another task already"));
  }

  void Cancel(uint64_t task_id) {
    const MutexLock lock(mutex_);
    if (running_ == task_id) {
      stop_.request_stop();
    }
  }

  // Nothing more can be said or heard: stops the task and ends Serve.
  void End(const absl::Status& status) {
    const MutexLock lock(mutex_);
    if (!ended_) {
      ended_ = true;
      status_ = status;
    }
    stop_.request_stop();
    wake_.NotifyOne();
  }

  std::optional<v1::EngineRun> NextRun() {
    const MutexLock lock(mutex_);
    while (!next_ && !ended_) {
      wake_.Wait(mutex_);
    }
    return ended_ ? std::nullopt : std::exchange(next_, std::nullopt);
  }

  void RunTask(const v1::EngineRun& run) {
    std::stop_token stop;
    {
      const MutexLock lock(mutex_);
      stop = stop_.get_token();
    }
    task_id_ = run.task().task_id();
    progress_seq_ = 0;
    languages_.clear();
    for (const v1::TaskLanguage& language : run.task().languages()) {
      languages_.push_back(language.language());
    }
    const absl::StatusOr<EngineResult> result = Run(run, stop);
    {
      // Before the answer, after which the agent may send the next task.
      const MutexLock lock(mutex_);
      running_.reset();
    }
    if (!result.ok()) {
      SendFailed(task_id_, result.status());
      // A GPU's error stays with the process: the next one starts afresh.
      const std::optional<ErrorInfo> info = GetErrorInfo(result.status());
      if (info && info->code == kDeviceFailed.code) {
        End(result.status());
        on_end_();
      }
      return;
    }
    v1::EngineEvent event;
    event.mutable_done()->set_task_id(task_id_);
    *event.mutable_done()->mutable_result() =
        ResultToProto(*result, engine_.info());
    Send(event);
  }

  absl::StatusOr<EngineResult> Run(const v1::EngineRun& run,
                                   const std::stop_token& stop) {
    QSWEEP_ASSIGN_OR_RETURN(const EngineTask task, TaskFromProto(run));
    return engine_.Run(task, *this, stop);
  }

  Engine& engine_;
  const int in_fd_;
  const int out_fd_;
  const std::function<void()>& on_end_;

  Mutex write_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  // one frame at a time
  Mutex mutex_;
  CondVar wake_;
  std::optional<v1::EngineRun> next_ ABSL_GUARDED_BY(mutex_);
  std::optional<uint64_t> running_ ABSL_GUARDED_BY(mutex_);
  std::stop_source stop_ ABSL_GUARDED_BY(mutex_);  // of the running task
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);

  // Of the running task; its thread only.
  uint64_t task_id_ = 0;
  uint64_t progress_seq_ = 0;
  std::vector<std::string> languages_;
};

v1::RowStatus StatusToProto(RowStatus status) {
  switch (status) {
    case RowStatus::kOk:
      return v1::ROW_STATUS_OK;
    case RowStatus::kOneToken:
      return v1::ROW_STATUS_ONE_TOKEN;
    case RowStatus::kTooLong:
      return v1::ROW_STATUS_TOO_LONG;
    case RowStatus::kEmpty:
      return v1::ROW_STATUS_EMPTY;
  }
  return v1::ROW_STATUS_UNSPECIFIED;
}

}  // namespace

absl::Status ServePipe(Engine& engine, int in_fd, int out_fd,
                       const std::function<void()>& on_end) {
  return PipeServer(engine, in_fd, out_fd, on_end).Serve();
}

absl::StatusOr<EngineTask> TaskFromProto(const v1::EngineRun& run) {
  const v1::TaskSpec& spec = run.task();
  EngineTask task;
  task.model_path = run.model_path();
  task.evaluation = spec.evaluation();
  QSWEEP_ASSIGN_OR_RETURN(task.model_digest,
                          OptionalDigest(spec.model_digest()));
  QSWEEP_ASSIGN_OR_RETURN(task.compute, FromProto(spec.compute()));
  task.measure_noise = true;
  for (const v1::ConfigurationSpec& configuration : spec.configurations()) {
    QSWEEP_ASSIGN_OR_RETURN(const Digest digest,
                            OptionalDigest(configuration.digest()));
    task.configurations.push_back({.digest = digest,
                                   .quantizer = configuration.quantizer(),
                                   .layer_set = configuration.layer_set()});
  }
  // Where each language's texts are, by their digest.
  std::vector<std::map<std::string, int>> texts;
  for (const v1::LanguageCorpus& corpus : run.languages()) {
    EngineLanguage& language = task.languages.emplace_back();
    language.language = corpus.language();
    std::map<std::string, int>& known = texts.emplace_back();
    for (const v1::Document& document : corpus.documents()) {
      known.try_emplace(Digest::Of(document.text()).bytes(),
                        static_cast<int>(language.texts.size()));
      language.texts.push_back(document.text());
    }
  }
  const auto add = [&texts](const auto& from, absl::string_view what,
                            std::vector<EngineDocument>& to) -> absl::Status {
    for (const v1::TaskDocument& document : from) {
      const size_t language = document.language_index();
      if (language >= texts.size() ||
          texts[language].count(document.digest()) == 0) {
        return MakeError(
            kArtifactMismatch,
            absl::StrCat("The text of ", what, " ", to.size(),
                         " of the task is not in the corpus that came with "
                         "it."));
      }
      to.push_back({.language = static_cast<int>(language),
                    .text = texts[language].at(document.digest())});
    }
    return absl::OkStatus();
  };
  QSWEEP_RETURN_IF_ERROR(add(spec.documents(), "document", task.documents));
  for (const v1::TaskCalibration& calibration : spec.calibrations()) {
    QSWEEP_RETURN_IF_ERROR(add(calibration.documents(), "calibration document",
                               task.calibrations.emplace_back().documents));
  }
  return task;
}

v1::TaskResult ResultToProto(const EngineResult& result,
                             const EngineInfo& info) {
  v1::TaskResult out;
  for (const EngineRow& row : result.rows) {
    v1::Measurement& measurement = *out.add_rows();
    measurement.set_configuration_index(
        static_cast<uint32_t>(row.configuration));
    measurement.set_document_index(static_cast<uint32_t>(row.document));
    measurement.set_status(StatusToProto(row.status));
    measurement.set_bytes(row.bytes);
    measurement.set_chars(row.chars);
    if (row.status != RowStatus::kOk) {
      continue;
    }
    measurement.set_nll_sum(row.nll_sum);
    measurement.set_nll_fp_sum(row.nll_fp_sum);
    measurement.set_unigram_nll_sum(row.unigram_nll_sum);
    measurement.set_tokens(row.tokens);
    measurement.set_bytes_scored(row.bytes_scored);
    measurement.set_kl_sum(row.kl_sum);
    measurement.set_top1(row.top1);
    measurement.set_nonfinite(row.nonfinite);
    if (!row.codes.empty()) {
      measurement.set_codes(row.codes.bytes());
    }
  }
  v1::TaskReport& report = *out.mutable_report();
  report.set_engine(info.fingerprint);
  report.set_device(info.device);
  report.set_layer_evaluations(
      static_cast<uint64_t>(result.report.layer_evaluations));
  report.set_layer_evaluations_planned(
      static_cast<uint64_t>(result.report.layer_evaluations_planned));
  report.set_load_seconds(result.report.load_seconds);
  report.set_run_seconds(result.report.run_seconds);
  report.set_weight_bytes(static_cast<uint64_t>(result.report.weight_bytes));
  report.set_weight_seconds(result.report.weight_seconds);
  report.set_memory_peak_bytes(
      static_cast<uint64_t>(result.report.memory_peak_bytes));
  if (const std::optional<EngineNoise>& noise = result.report.noise) {
    report.mutable_noise()->set_nll_per_token(noise->nll_per_token);
    report.mutable_noise()->set_documents(noise->documents);
    report.mutable_noise()->set_tokens(noise->tokens);
  }
  return out;
}

}  // namespace qsweep
