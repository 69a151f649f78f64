#include "coordinator/service/corpus_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/job/corpus.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

class AddCorpusReactor : public grpc::ServerReadReactor<v1::AddCorpusRequest> {
 public:
  AddCorpusReactor(Loop& loop, v1::AddCorpusResponse* response,
                   absl::StatusOr<Caller> caller)
      : loop_(loop), response_(response), caller_(std::move(caller)) {
    if (!caller_.ok()) {
      Finish(ToGrpcStatus(caller_.status()));
      return;
    }
    StartRead(&part_);
  }

  void OnReadDone(bool ok) override {
    // Sent whole, or the client is gone: then the digest or a count is wrong.
    if (!ok) {
      loop_.Post(*caller_, std::move(whole_),
                 [this](absl::StatusOr<v1::AddCorpusResponse> reply) {
                   if (reply.ok()) {
                     *response_ = *std::move(reply);
                   }
                   Finish(ToGrpcStatus(reply.status()));
                 });
      return;
    }
    bytes_ += part_.ByteSizeLong();
    if (bytes_ > kMaxCorpusBytes) {
      Finish(ToGrpcStatus(MakeError(
          kBadValue,
          absl::StrCat("the ids and digests of the corpus take more than ",
                       kMaxCorpusBytes >> 20, " MiB"),
          "corpus", "add its languages as several corpora")));
      return;
    }
    AppendPart(std::move(*part_.mutable_corpus()), *whole_.mutable_corpus());
    part_.Clear();
    StartRead(&part_);
  }
  void OnDone() override { delete this; }

 private:
  Loop& loop_;
  v1::AddCorpusResponse* const response_;
  const absl::StatusOr<Caller> caller_;
  v1::AddCorpusRequest part_;
  v1::AddCorpusRequest whole_;
  size_t bytes_ = 0;  // read so far
};

}  // namespace

grpc::ServerReadReactor<v1::AddCorpusRequest>* NewAddCorpusReactor(
    Loop& loop, v1::AddCorpusResponse* response,
    absl::StatusOr<Caller> caller) {
  return new AddCorpusReactor(loop, response, std::move(caller));
}

}  // namespace qsweep
