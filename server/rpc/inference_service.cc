#include "server/rpc/inference_service.h"

#include <adamoe/v1/inference.grpc.pb.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/rpc/generate_call.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/score_call.h"
#include "server/rpc/unary_answer.h"
#include "server/serving/current_load.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using grpc::ServerWriteReactor;

using WithGenerate = v1::Inference::WithRawCallbackMethod_Generate<v1::Inference::Service>;
using WithScore = v1::Inference::WithRawCallbackMethod_Score<WithGenerate>;
using WithTokenize = v1::Inference::WithRawCallbackMethod_Tokenize<WithScore>;
using WithDetokenize = v1::Inference::WithRawCallbackMethod_Detokenize<WithTokenize>;
using WithGetModelInfo = v1::Inference::WithRawCallbackMethod_GetModelInfo<WithDetokenize>;
using RawService = v1::Inference::WithRawCallbackMethod_GetLoad<WithGetModelInfo>;

// A longer text would keep a thread that others need for seconds.
constexpr size_t kMaxTokenizeBytes = 4 << 20;

class InferenceService final : public RawService {
 public:
  explicit InferenceService(const CallContext& context) : context_(context) {}

  ServerWriteReactor<ByteBuffer>* Generate(CallbackServerContext* server_context,
                                           const ByteBuffer* request) override {
    return StartGenerate(context_, server_context, *request);
  }
  ServerUnaryReactor* Score(CallbackServerContext* server_context, const ByteBuffer* request,
                            ByteBuffer* response) override {
    return StartScore(context_, server_context, *request, response);
  }
  ServerUnaryReactor* Tokenize(CallbackServerContext* server_context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return Answer(&InferenceService::DoTokenize, server_context, request, response);
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* server_context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return Answer(&InferenceService::DoDetokenize, server_context, request, response);
  }
  ServerUnaryReactor* GetModelInfo(CallbackServerContext* server_context, const ByteBuffer* request,
                                   ByteBuffer* response) override {
    return Answer(&InferenceService::DoGetModelInfo, server_context, request, response);
  }
  ServerUnaryReactor* GetLoad(CallbackServerContext* server_context, const ByteBuffer* request,
                              ByteBuffer* response) override {
    return Answer(&InferenceService::DoGetLoad, server_context, request, response);
  }

 private:
  // Answers a unary call at once.
  template <typename Request, typename Response>
  ServerUnaryReactor* Answer(absl::Status (InferenceService::*method)(const Request&, Response*)
                                 const,
                             CallbackServerContext* server_context, const ByteBuffer* request,
                             ByteBuffer* response) const {
    return AnswerAtOnce(*this, method, context_.authenticator, server_context, *request, response);
  }

  absl::Status DoTokenize(const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response) const {
    if (request.text().size() > kMaxTokenizeBytes) {
      return FieldError("text", absl::StrCat(request.text().size(), " bytes, at most ",
                                             kMaxTokenizeBytes, " are allowed"));
    }
    EncodeOptions options;
    options.add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens();
    const auto ids = context_.tokenizer->Encode(request.text(), options);
    if (!ids.ok()) return FieldError("text", ids.status());
    response->mutable_ids()->Add(ids->begin(), ids->end());
    return absl::OkStatus();
  }

  absl::Status DoDetokenize(const v1::DetokenizeRequest& request,
                            v1::DetokenizeResponse* response) const {
    const uint32_t vocab_size = context_.model->vocab_size;
    for (int i = 0; i < request.ids_size(); ++i) {
      if (request.ids(i) < vocab_size) continue;
      return FieldError(
          absl::StrCat("ids[", i, "]"),
          absl::StrCat("token id ", request.ids(i), " is not below vocab_size ", vocab_size));
    }
    // A model may have more ids than its tokenizer: they stand for no text.
    std::vector<int32_t> ids;
    for (const uint32_t id : request.ids()) {
      if (id < static_cast<uint32_t>(context_.tokenizer->vocab_size())) ids.push_back(id);
    }
    const auto text = context_.tokenizer->Decode(ids);
    if (!text.ok()) return FieldError("ids", text.status());
    response->set_text(*text);
    return absl::OkStatus();
  }

  absl::Status DoGetModelInfo(const v1::GetModelInfoRequest&,
                              v1::GetModelInfoResponse* response) const {
    const ServedModel& model = *context_.model;
    response->set_model_name(model.name);
    response->set_architecture(model.architecture);
    response->set_vocab_size(model.vocab_size);
    response->set_num_layers(model.num_layers);
    response->set_num_experts(model.num_experts);
    response->set_num_null_experts(model.num_null_experts);
    response->set_experts_per_token(model.experts_per_token);
    response->set_max_context_tokens(model.max_context_tokens);
    response->set_weight_dtype(model.weight_dtype);
    response->set_activation_dtype(model.activation_dtype);
    response->set_device(model.device);
    response->set_server_version(model.server_version);
    return absl::OkStatus();
  }

  absl::Status DoGetLoad(const v1::GetLoadRequest&, v1::GetLoadResponse* response) const {
    *response = CurrentLoad(context_);
    return absl::OkStatus();
  }

  const CallContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(const CallContext& context) {
  return std::make_unique<InferenceService>(context);
}

}  // namespace adamoe
