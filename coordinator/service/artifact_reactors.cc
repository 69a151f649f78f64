#include "coordinator/service/artifact_reactors.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

class PutArtifactReactor : public grpc::ServerReadReactor<v1::ArtifactChunk> {
 public:
  PutArtifactReactor(Loop& loop, v1::PutArtifactResponse* response,
                     const absl::Status& allowed)
      : loop_(loop), response_(response) {
    if (!allowed.ok()) {
      Finish(ToGrpcStatus(allowed));
      return;
    }
    StartRead(&chunk_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Store();
      return;
    }
    if (absl::Status status = Take(); !status.ok()) {
      Finish(ToGrpcStatus(status));
      return;
    }
    StartRead(&chunk_);
  }
  void OnDone() override { delete this; }

 private:
  absl::Status Take() {
    if (first_) {
      first_ = false;
      digest_ = chunk_.digest();
      total_size_ = chunk_.total_size();
    }
    if (chunk_.offset() != bytes_.size()) {
      return MakeError(kArtifactMismatch,
                       absl::StrCat("a chunk at ", chunk_.offset(), " follows ",
                                    bytes_.size(), " bytes"));
    }
    if (total_size_ > kMaxArtifactBytes ||
        bytes_.size() + chunk_.data().size() > total_size_) {
      return MakeError(
          kArtifactMismatch,
          absl::StrCat("an artifact of ", bytes_.size() + chunk_.data().size(),
                       " bytes or more; announced: ", total_size_,
                       ", at most: ", kMaxArtifactBytes));
    }
    bytes_.append(chunk_.data());
    return absl::OkStatus();
  }

  // The client has sent all, or is gone: then bytes are missing.
  void Store() {
    const absl::StatusOr<Digest> digest = Digest::FromBytes(digest_);
    if (!digest.ok() || bytes_.size() != total_size_) {
      Finish(ToGrpcStatus(MakeError(
          kArtifactMismatch,
          absl::StrCat("got ", bytes_.size(), " of ", total_size_, " bytes"))));
      return;
    }
    loop_.PostArtifact(*digest, std::move(bytes_),
                       [this](absl::StatusOr<v1::PutArtifactResponse> reply) {
                         if (reply.ok()) {
                           *response_ = *std::move(reply);
                         }
                         Finish(ToGrpcStatus(reply.status()));
                       });
  }

  Loop& loop_;
  v1::PutArtifactResponse* const response_;
  v1::ArtifactChunk chunk_;
  bool first_ = true;
  std::string digest_;
  uint64_t total_size_ = 0;
  std::string bytes_;
};

class GetArtifactReactor : public grpc::ServerWriteReactor<v1::ArtifactChunk> {
 public:
  GetArtifactReactor(ReaderPool& readers, const v1::GetArtifactRequest& request,
                     const absl::Status& allowed)
      : readers_(readers), offset_(request.offset()) {
    const absl::StatusOr<Digest> digest = Digest::FromBytes(request.digest());
    if (!allowed.ok() || !digest.ok()) {
      Finish(ToGrpcStatus(allowed.ok() ? digest.status() : allowed));
      return;
    }
    digest_ = *digest;
    ReadPart();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(ToGrpcStatus(absl::CancelledError("the reader is gone")));
    } else if (offset_ >= total_size_) {
      Finish(grpc::Status::OK);
    } else {
      ReadPart();
    }
  }
  void OnDone() override { delete this; }

 private:
  // One part at a time: nothing else is outstanding, so the reactor lives.
  void ReadPart() {
    const auto read = [this](Reader& reader) {
      absl::StatusOr<ArtifactPart> part =
          reader.ReadArtifact(digest_, offset_, kArtifactChunkBytes);
      if (!part.ok()) {
        Finish(ToGrpcStatus(part.status()));
        return;
      }
      total_size_ = part->total_size;
      chunk_.Clear();
      if (first_) {
        chunk_.set_digest(digest_.bytes());
        chunk_.set_total_size(total_size_);
        first_ = false;
      }
      chunk_.set_offset(offset_);
      offset_ += part->data.size();
      if (part->data.empty()) {
        offset_ = total_size_;  // asked for from its end on
      }
      chunk_.set_data(std::move(part->data));
      StartWrite(&chunk_);
    };
    if (absl::Status posted = readers_.Post(ReadKind::kQuick, read);
        !posted.ok()) {
      Finish(ToGrpcStatus(posted));
    }
  }

  ReaderPool& readers_;
  Digest digest_;
  uint64_t offset_;
  uint64_t total_size_ = 0;
  bool first_ = true;
  v1::ArtifactChunk chunk_;
};

}  // namespace

grpc::ServerReadReactor<v1::ArtifactChunk>* NewPutArtifactReactor(
    Loop& loop, v1::PutArtifactResponse* response,
    const absl::Status& allowed) {
  return new PutArtifactReactor(loop, response, allowed);
}

grpc::ServerWriteReactor<v1::ArtifactChunk>* NewGetArtifactReactor(
    ReaderPool& readers, const v1::GetArtifactRequest& request,
    const absl::Status& allowed) {
  return new GetArtifactReactor(readers, request, allowed);
}

}  // namespace qsweep
