#include "server/rpc/vllm_engine/get_tokenizer_call.h"

#include <smg/common.pb.h>

#include <algorithm>
#include <utility>

#include "server/rpc/grpc_codec.h"

namespace adamoe {
namespace {

constexpr size_t kChunkBytes = 64 << 10;

class GetTokenizerCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit GetTokenizerCall(std::shared_ptr<const Archive> archive) : archive_(std::move(archive)) {
    SendNext();
  }
  explicit GetTokenizerCall(const absl::Status& error) { Finish(ToGrpcStatus(error)); }

  void OnWriteDone(bool ok) override {
    if (ok) {
      SendNext();
    } else {
      Finish(grpc::Status::CANCELLED);
    }
  }

  void OnDone() override { delete this; }

 private:
  void SendNext() {
    const std::string& bytes = archive_->bytes;
    const size_t size = std::min(kChunkBytes, bytes.size() - sent_);
    smg::grpc::common::GetTokenizerChunk chunk;
    chunk.set_data(bytes.substr(sent_, size));
    sent_ += size;
    const bool last = sent_ == bytes.size();
    if (last) chunk.set_sha256(archive_->sha256);
    message_ = ToByteBuffer(chunk);
    if (last) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }

  const std::shared_ptr<const Archive> archive_;
  size_t sent_ = 0;
  grpc::ByteBuffer message_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGetTokenizer(
    absl::StatusOr<std::shared_ptr<const Archive>> archive) {
  if (archive.ok()) return new GetTokenizerCall(*std::move(archive));
  return new GetTokenizerCall(archive.status());
}

}  // namespace adamoe
