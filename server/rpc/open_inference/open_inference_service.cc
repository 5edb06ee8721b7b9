#include "server/rpc/open_inference/open_inference_service.h"

#include <open_inference/grpc_service.grpc.pb.h>

#include <utility>

#include "server/base/status_macros.h"
#include "server/rpc/open_inference/infer_request.h"
#include "server/rpc/open_inference/model_infer_call.h"
#include "server/rpc/open_inference/model_stream_infer_call.h"
#include "server/rpc/open_inference/tensors.h"
#include "server/rpc/unary_answer.h"

namespace adamoe {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerBidiReactor;
using grpc::ServerUnaryReactor;

using Api = inference::GRPCInferenceService;
using WithServerLive = Api::WithRawCallbackMethod_ServerLive<Api::Service>;
using WithServerReady = Api::WithRawCallbackMethod_ServerReady<WithServerLive>;
using WithModelReady = Api::WithRawCallbackMethod_ModelReady<WithServerReady>;
using WithServerMetadata = Api::WithRawCallbackMethod_ServerMetadata<WithModelReady>;
using WithModelMetadata = Api::WithRawCallbackMethod_ModelMetadata<WithServerMetadata>;
using WithModelConfig = Api::WithRawCallbackMethod_ModelConfig<WithModelMetadata>;
using WithModelInfer = Api::WithRawCallbackMethod_ModelInfer<WithModelConfig>;
using RawService = Api::WithRawCallbackMethod_ModelStreamInfer<WithModelInfer>;

constexpr char kName[] = "adamoe";

class OpenInferenceService final : public RawService {
 public:
  OpenInferenceService(const CallContext& context, std::function<bool()> is_serving)
      : context_(context), is_serving_(std::move(is_serving)) {}

  ServerUnaryReactor* ServerLive(CallbackServerContext* server_context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoServerLive, /*authenticator=*/nullptr,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ServerReady(CallbackServerContext* server_context, const ByteBuffer* request,
                                  ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoServerReady, /*authenticator=*/nullptr,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ModelReady(CallbackServerContext* server_context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoModelReady, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ServerMetadata(CallbackServerContext* server_context,
                                     const ByteBuffer* request, ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoServerMetadata, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ModelMetadata(CallbackServerContext* server_context,
                                    const ByteBuffer* request, ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoModelMetadata, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ModelConfig(CallbackServerContext* server_context, const ByteBuffer* request,
                                  ByteBuffer* response) override {
    return AnswerAtOnce(*this, &OpenInferenceService::DoModelConfig, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* ModelInfer(CallbackServerContext* server_context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return StartModelInfer(context_, server_context, *request, response);
  }
  ServerBidiReactor<ByteBuffer, ByteBuffer>* ModelStreamInfer(
      CallbackServerContext* server_context) override {
    return StartModelStreamInfer(context_, server_context);
  }

 private:
  absl::Status DoServerLive(const inference::ServerLiveRequest&,
                            inference::ServerLiveResponse* response) const {
    response->set_live(true);
    return absl::OkStatus();
  }

  absl::Status DoServerReady(const inference::ServerReadyRequest&,
                             inference::ServerReadyResponse* response) const {
    response->set_ready(is_serving_());
    return absl::OkStatus();
  }

  absl::Status DoModelReady(const inference::ModelReadyRequest& request,
                            inference::ModelReadyResponse* response) const {
    const bool is_served = CheckModel(request.name(), request.version(), *context_.model).ok();
    response->set_ready(is_served && is_serving_());
    return absl::OkStatus();
  }

  absl::Status DoServerMetadata(const inference::ServerMetadataRequest&,
                                inference::ServerMetadataResponse* response) const {
    response->set_name(kName);
    response->set_version(context_.model->server_version);
    response->add_extensions("model_configuration");
    response->add_extensions("parameters");
    return absl::OkStatus();
  }

  absl::Status DoModelMetadata(const inference::ModelMetadataRequest& request,
                               inference::ModelMetadataResponse* response) const {
    RETURN_IF_ERROR(CheckModel(request.name(), request.version(), *context_.model));
    response->set_name(context_.model->name);
    response->add_versions(kModelVersion);
    response->set_platform(kName);
    const auto add = [](const char* name, inference::DataType type, int64_t dim, auto* tensor) {
      tensor->set_name(name);
      tensor->set_datatype(DatatypeOf(type));
      tensor->add_shape(dim);
    };
    for (const InputSpec& input : kInputs) add(input.name, input.type, 1, response->add_inputs());
    for (const OutputSpec& output : kOutputs) {
      add(output.name, output.type, output.dim, response->add_outputs());
    }
    return absl::OkStatus();
  }

  absl::Status DoModelConfig(const inference::ModelConfigRequest& request,
                             inference::ModelConfigResponse* response) const {
    RETURN_IF_ERROR(CheckModel(request.name(), request.version(), *context_.model));
    inference::ModelConfig& config = *response->mutable_config();
    config.set_name(context_.model->name);
    config.set_backend(kName);
    config.mutable_model_transaction_policy()->set_decoupled(true);
    for (const InputSpec& spec : kInputs) {
      auto* input = config.add_input();
      input->set_name(spec.name);
      input->set_data_type(spec.type);
      input->add_dims(1);
      input->set_optional(spec.optional);
    }
    for (const OutputSpec& spec : kOutputs) {
      auto* output = config.add_output();
      output->set_name(spec.name);
      output->set_data_type(spec.type);
      output->add_dims(spec.dim);
    }
    return absl::OkStatus();
  }

  const CallContext context_;
  const std::function<bool()> is_serving_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeOpenInferenceService(const CallContext& context,
                                                        std::function<bool()> is_serving) {
  return std::make_unique<OpenInferenceService>(context, std::move(is_serving));
}

}  // namespace adamoe
