#include "server/rpc/vllm_engine/vllm_engine_service.h"

#include <smg/vllm_engine.grpc.pb.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status_macros.h"
#include "server/rpc/unary_answer.h"
#include "server/rpc/vllm_engine/engine_generate_call.h"
#include "server/rpc/vllm_engine/get_tokenizer_call.h"
#include "server/rpc/vllm_engine/running_requests.h"
#include "server/rpc/vllm_engine/tokenizer_archive.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

namespace engine = vllm::grpc::engine;

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using grpc::ServerWriteReactor;

using Api = engine::VllmEngine;
using WithGenerate = Api::WithRawCallbackMethod_Generate<Api::Service>;
using WithEmbed = Api::WithRawCallbackMethod_Embed<WithGenerate>;
using WithHealthCheck = Api::WithRawCallbackMethod_HealthCheck<WithEmbed>;
using WithFlushCache = Api::WithRawCallbackMethod_FlushCache<WithHealthCheck>;
using WithStartProfile = Api::WithRawCallbackMethod_StartProfile<WithFlushCache>;
using WithStopProfile = Api::WithRawCallbackMethod_StopProfile<WithStartProfile>;
using WithAbort = Api::WithRawCallbackMethod_Abort<WithStopProfile>;
using WithGetModelInfo = Api::WithRawCallbackMethod_GetModelInfo<WithAbort>;
using WithGetServerInfo = Api::WithRawCallbackMethod_GetServerInfo<WithGetModelInfo>;
using WithGetLoads = Api::WithRawCallbackMethod_GetLoads<WithGetServerInfo>;
using WithGetTokenizer = Api::WithRawCallbackMethod_GetTokenizer<WithGetLoads>;
using RawService = Api::WithRawCallbackMethod_SubscribeKvEvents<WithGetTokenizer>;

// A stream that ends before its first message.
class RefusedStream final : public ServerWriteReactor<ByteBuffer> {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

class VllmEngineService final : public RawService {
 public:
  VllmEngineService(const CallContext& context, std::function<bool()> is_serving)
      : context_(context),
        is_serving_(std::move(is_serving)),
        start_(absl::Now()),
        tokenizer_(context.model->folder) {}

  ServerWriteReactor<ByteBuffer>* Generate(CallbackServerContext* server_context,
                                           const ByteBuffer* request) override {
    return StartEngineGenerate(context_, &running_, server_context, *request);
  }
  ServerUnaryReactor* Embed(CallbackServerContext* server_context, const ByteBuffer*,
                            ByteBuffer*) override {
    return Refuse(server_context, "Embed: the served model generates text, it makes no embeddings");
  }
  ServerUnaryReactor* HealthCheck(CallbackServerContext* server_context, const ByteBuffer* request,
                                  ByteBuffer* response) override {
    return AnswerAtOnce(*this, &VllmEngineService::DoHealthCheck, /*authenticator=*/nullptr,
                        server_context, *request, response);
  }
  ServerUnaryReactor* FlushCache(CallbackServerContext* server_context, const ByteBuffer*,
                                 ByteBuffer*) override {
    return Refuse(server_context, "FlushCache: the prefix cache cannot be emptied");
  }
  ServerUnaryReactor* StartProfile(CallbackServerContext* server_context, const ByteBuffer*,
                                   ByteBuffer*) override {
    return Refuse(server_context, "StartProfile: there is no profiler");
  }
  ServerUnaryReactor* StopProfile(CallbackServerContext* server_context, const ByteBuffer*,
                                  ByteBuffer*) override {
    return Refuse(server_context, "StopProfile: there is no profiler");
  }
  ServerUnaryReactor* Abort(CallbackServerContext* server_context, const ByteBuffer* request,
                            ByteBuffer* response) override;
  ServerUnaryReactor* GetModelInfo(CallbackServerContext* server_context, const ByteBuffer* request,
                                   ByteBuffer* response) override {
    return AnswerAtOnce(*this, &VllmEngineService::DoGetModelInfo, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* GetServerInfo(CallbackServerContext* server_context,
                                    const ByteBuffer* request, ByteBuffer* response) override {
    return AnswerAtOnce(*this, &VllmEngineService::DoGetServerInfo, context_.authenticator,
                        server_context, *request, response);
  }
  ServerUnaryReactor* GetLoads(CallbackServerContext* server_context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return AnswerAtOnce(*this, &VllmEngineService::DoGetLoads, context_.authenticator,
                        server_context, *request, response);
  }
  ServerWriteReactor<ByteBuffer>* GetTokenizer(CallbackServerContext* server_context,
                                               const ByteBuffer*) override {
    const auto caller = FindCaller(*server_context);
    return StartGetTokenizer(caller.ok() ? tokenizer_.Get() : caller.status());
  }
  ServerWriteReactor<ByteBuffer>* SubscribeKvEvents(CallbackServerContext* server_context,
                                                    const ByteBuffer*) override {
    const auto caller = FindCaller(*server_context);
    return new RefusedStream(
        caller.ok() ? absl::UnimplementedError("SubscribeKvEvents: no events of the KV cache here")
                    : caller.status());
  }

 private:
  // The name of the call's token; empty where none are wanted.
  absl::StatusOr<std::string> FindCaller(const CallbackServerContext& server_context) const {
    ASSIGN_OR_RETURN(const auto caller,
                     Authenticate(context_.authenticator, OriginOf(server_context).authorization));
    return caller == nullptr ? "" : caller->name();
  }

  ServerUnaryReactor* Refuse(CallbackServerContext* server_context, const char* why) const {
    const auto caller = FindCaller(*server_context);
    ServerUnaryReactor* reactor = server_context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(caller.ok() ? absl::UnimplementedError(why) : caller.status()));
    return reactor;
  }

  absl::Status DoHealthCheck(const engine::HealthCheckRequest&,
                             engine::HealthCheckResponse* response) const {
    response->set_healthy(is_serving_());
    response->set_message(response->healthy() ? "serving" : "not serving");
    return absl::OkStatus();
  }

  absl::Status DoGetModelInfo(const engine::GetModelInfoRequest&,
                              engine::GetModelInfoResponse* response) const {
    const ServedModel& model = *context_.model;
    response->set_model_path(model.folder);
    response->set_is_generation(true);
    response->set_max_context_length(model.max_context_tokens);
    response->set_vocab_size(model.vocab_size);
    response->set_served_model_name(model.name);
    response->set_tokenizer_path(model.folder);
    response->set_model_type("mixtral");
    response->add_architectures(model.architecture);
    response->mutable_eos_token_ids()->Add(model.eos_token_ids.begin(), model.eos_token_ids.end());
    response->set_bos_token_id(std::max(model.bos_token_id, 0));
    response->set_max_req_input_len(model.max_context_tokens - 1);
    response->set_default_sampling_params_json("{}");
    return absl::OkStatus();
  }

  absl::Status DoGetServerInfo(const engine::GetServerInfoRequest&,
                               engine::GetServerInfoResponse* response) const {
    response->set_active_requests(static_cast<uint32_t>(context_.queue->num_waiting()) +
                                  context_.metrics->load().num_running);
    response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - start_));
    response->set_server_type("adamoe");
    response->set_data_parallel_size(1);
    response->set_block_size(context_.model->kv_block_size);
    response->set_model_dtype(context_.model->activation_dtype);
    response->set_max_num_seqs(context_.model->max_running_requests);
    response->set_constrained_decoding_start("first_token");
    return absl::OkStatus();
  }

  absl::Status DoGetLoads(const engine::GetLoadsRequest& request,
                          engine::GetLoadsResponse* response) const {
    if (request.has_dp_rank() && request.dp_rank() != 0) {
      return FieldError("dp_rank", "there is one rank, 0");
    }
    response->set_timestamp(absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()));
    response->set_version(context_.model->server_version);
    response->set_dp_rank_count(1);
    const LoadReport report = context_.metrics->load();
    const int32_t max_running = context_.model->max_running_requests;
    const int32_t block_size = context_.model->kv_block_size;
    const auto used = static_cast<int32_t>(report.num_blocks - report.num_free_blocks);
    engine::SchedulerLoad& load = *response->add_loads();
    load.set_num_running_reqs(static_cast<int32_t>(report.num_running));
    load.set_num_waiting_reqs(static_cast<int32_t>(context_.queue->num_waiting()));
    load.set_num_total_reqs(load.num_running_reqs() + load.num_waiting_reqs());
    load.set_num_used_tokens(used * block_size);
    load.set_max_total_num_tokens(static_cast<int32_t>(report.num_blocks) * block_size);
    if (report.num_blocks > 0) load.set_token_usage(double{1} * used / report.num_blocks);
    load.set_gen_throughput(context_.metrics->recent().tokens_per_second);
    if (max_running > 0) load.set_utilization(double{1} * report.num_running / max_running);
    load.set_max_running_requests(max_running);
    return absl::OkStatus();
  }

  const CallContext context_;
  const std::function<bool()> is_serving_;
  const absl::Time start_;
  TokenizerArchive tokenizer_;
  RunningRequests running_;
};

ServerUnaryReactor* VllmEngineService::Abort(CallbackServerContext* server_context,
                                             const ByteBuffer* request, ByteBuffer* response) {
  engine::AbortRequest ids;
  const auto caller = FindCaller(*server_context);
  absl::Status status = caller.status();
  if (status.ok()) status = ParseRequest(*request, &ids);
  if (status.ok()) {
    for (const std::string& id : ids.request_ids()) running_.Abort({*caller, id});
    *response = ToByteBuffer(engine::AbortResponse());
  }
  ServerUnaryReactor* reactor = server_context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

std::unique_ptr<grpc::Service> MakeVllmEngineService(const CallContext& context,
                                                     std::function<bool()> is_serving) {
  return std::make_unique<VllmEngineService>(context, std::move(is_serving));
}

}  // namespace adamoe
