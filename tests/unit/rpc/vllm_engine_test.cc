// vllm.grpc.engine.VllmEngine through real gRPC, on an executor with a model without weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <smg/vllm_engine.grpc.pb.h>

#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "server/rpc/vllm_engine/tokenizer_archive.h"
#include "tests/fakes/temp_folder.h"
#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

namespace engine = vllm::grpc::engine;

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Stub = engine::VllmEngine::Stub;

std::unique_ptr<Stub> MakeStub(const Serving& serving) {
  return engine::VllmEngine::NewStub(serving.channel());
}

const char kRequest[] = R"(
  request_id: "mine" tokenized { input_ids: [5, 6, 7, 8, 9] } stream: true
  sampling_params { temperature: 1 max_tokens: 20 seed: 3 skip_special_tokens: true })";

std::vector<uint32_t> IdsByGenerate(Serving& serving, const std::string& sampling) {
  const Generated generated = Generate(
      serving.stub(), "prompt_tokens { ids: [5, 6, 7, 8, 9] } sampling {" + sampling + "}");
  std::vector<uint32_t> ids;
  for (const auto& token : generated.all.tokens()) ids.push_back(token.id());
  return ids;
}

struct Answer {
  grpc::Status status;
  std::map<uint32_t, std::vector<uint32_t>> chunk_ids;  // by index
  std::map<uint32_t, engine::GenerateComplete> complete;
  std::vector<engine::GenerateStreamChunk> chunks;
};

Answer ReadAnswer(grpc::ClientReader<engine::GenerateResponse>& reader) {
  Answer answer;
  engine::GenerateResponse message;
  while (reader.Read(&message)) {
    if (message.has_chunk()) {
      const auto& chunk = message.chunk();
      EXPECT_EQ(answer.complete.count(chunk.index()), 0u);
      EXPECT_EQ(static_cast<int>(chunk.completion_tokens()), chunk.token_ids_size());
      auto& ids = answer.chunk_ids[chunk.index()];
      ids.insert(ids.end(), chunk.token_ids().begin(), chunk.token_ids().end());
      answer.chunks.push_back(chunk);
    } else {
      const uint32_t index = message.complete().index();
      EXPECT_TRUE(answer.complete.emplace(index, message.complete()).second) << index;
    }
  }
  answer.status = reader.Finish();
  return answer;
}

Answer Ask(Stub& stub, const engine::GenerateRequest& request) {
  grpc::ClientContext context;
  SetPatience(context);
  return ReadAnswer(*stub.Generate(&context, request));
}

std::vector<uint32_t> ToVector(const google::protobuf::RepeatedField<uint32_t>& ids) {
  return {ids.begin(), ids.end()};
}

TEST(VllmEngineTest, StreamsTheTokensOfGenerate) {
  Serving serving;
  const auto expected = IdsByGenerate(serving, "temperature: 1 max_tokens: 20 seed: 3");
  const Answer answer = Ask(*MakeStub(serving), FromText<engine::GenerateRequest>(kRequest));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  // Every token comes in a chunk, the last one too.
  EXPECT_EQ(answer.chunk_ids.at(0), expected);
  ASSERT_THAT(answer.complete, SizeIs(1));
  const engine::GenerateComplete& complete = answer.complete.at(0);
  EXPECT_EQ(ToVector(complete.output_ids()), expected);
  EXPECT_EQ(complete.finish_reason(), "length");
  EXPECT_EQ(complete.prompt_tokens(), 5u);
  EXPECT_EQ(complete.completion_tokens(), 20u);
  EXPECT_EQ(complete.matched_stop_case(), engine::GenerateComplete::MATCHED_STOP_NOT_SET);
  EXPECT_EQ(answer.chunks.front().prompt_tokens(), 5u);
  EXPECT_EQ(serving.Count("ok"), 2);
}

TEST(VllmEngineTest, WithoutStreamThereIsOnlyTheComplete) {
  Serving serving;
  auto request = FromText<engine::GenerateRequest>(kRequest);
  request.set_stream(false);
  request.mutable_sampling_params()->set_logprobs(2);
  const Answer answer = Ask(*MakeStub(serving), request);
  EXPECT_THAT(answer.chunks, IsEmpty());
  const engine::GenerateComplete& complete = answer.complete.at(0);
  EXPECT_THAT(complete.output_ids(), SizeIs(20));
  EXPECT_THAT(complete.output_logprobs().token_logprobs(), SizeIs(20));
  EXPECT_EQ(ToVector(complete.output_logprobs().token_ids()), ToVector(complete.output_ids()));
  EXPECT_THAT(complete.output_logprobs().top_logprobs(5).values(), SizeIs(2));
}

TEST(VllmEngineTest, SecondTimeTheCacheIsReported) {
  Serving serving;
  const auto stub = MakeStub(serving);
  Ask(*stub, FromText<engine::GenerateRequest>(kRequest));
  const Answer answer = Ask(*stub, FromText<engine::GenerateRequest>(kRequest));
  EXPECT_EQ(answer.complete.at(0).cached_tokens(), 4u);
  EXPECT_EQ(answer.chunks.back().cached_tokens(), 4u);
}

TEST(VllmEngineTest, LogprobsComeWithTheChunks) {
  Serving serving;
  auto request = FromText<engine::GenerateRequest>(kRequest);
  request.mutable_sampling_params()->set_logprobs(0);
  request.mutable_sampling_params()->set_prompt_logprobs(3);
  const Answer answer = Ask(*MakeStub(serving), request);
  engine::InputLogProbs inputs;
  engine::OutputLogProbs outputs;
  for (const auto& chunk : answer.chunks) {
    inputs.MergeFrom(chunk.input_logprobs());
    outputs.MergeFrom(chunk.output_logprobs());
  }
  ASSERT_THAT(inputs.token_logprobs(), SizeIs(5));
  EXPECT_FALSE(inputs.token_logprobs(0).has_value());
  EXPECT_TRUE(inputs.token_logprobs(1).has_value());
  EXPECT_THAT(inputs.top_logprobs(1).token_ids(), SizeIs(3));
  EXPECT_EQ(ToVector(outputs.token_ids()), answer.chunk_ids.at(0));
  EXPECT_THAT(outputs.top_logprobs(0).values(), IsEmpty());
  EXPECT_FALSE(answer.complete.at(0).has_output_logprobs());
}

TEST(VllmEngineTest, SamplesAreGenerationsWithSeedsOfTheirOwn) {
  Serving serving;
  auto request = FromText<engine::GenerateRequest>(kRequest);
  request.mutable_sampling_params()->set_n(3);
  const Answer answer = Ask(*MakeStub(serving), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.complete, SizeIs(3));
  for (uint32_t i = 0; i < 3; ++i) {
    const auto expected =
        IdsByGenerate(serving, absl::StrCat("temperature: 1 max_tokens: 20 seed: ", 3 + i));
    EXPECT_EQ(answer.chunk_ids.at(i), expected) << i;
    EXPECT_EQ(ToVector(answer.complete.at(i).output_ids()), expected) << i;
  }
}

TEST(VllmEngineTest, SaysWhatItStoppedAt) {
  Serving serving;
  const auto ids = IdsByGenerate(serving, "temperature: 0 max_tokens: 20");
  auto request = FromText<engine::GenerateRequest>(kRequest);
  request.mutable_sampling_params()->set_temperature(0);
  request.mutable_sampling_params()->add_stop_token_ids(ids[4]);
  const Answer answer = Ask(*MakeStub(serving), request);
  EXPECT_EQ(answer.complete.at(0).finish_reason(), "stop");
  EXPECT_EQ(answer.complete.at(0).matched_token_id(), ids[4]);
  EXPECT_EQ(answer.complete.at(0).output_ids().rbegin()[0], ids[4]);
  request.mutable_sampling_params()->clear_stop_token_ids();
  request.mutable_sampling_params()->add_stop("\1never\1");
  const std::string text = serving.tokenizer().TokenBytes(static_cast<int32_t>(ids[4]));
  request.mutable_sampling_params()->add_stop(text);
  EXPECT_EQ(Ask(*MakeStub(serving), request).complete.at(0).matched_stop_str(), text);
}

TEST(VllmEngineTest, WithoutMaxTokensTheContextIsFilled) {
  Serving serving;
  auto request = FromText<engine::GenerateRequest>(kRequest);
  request.mutable_sampling_params()->clear_max_tokens();
  request.set_stream(false);
  const Answer answer = Ask(*MakeStub(serving), request);
  const int32_t context = Serving::Dimensions().max_context_tokens;
  EXPECT_THAT(answer.complete.at(0).output_ids(), SizeIs(context - 5));
  request.set_text("ab");
  const Answer of_text = Ask(*MakeStub(serving), request);
  EXPECT_EQ(of_text.complete.at(0).prompt_tokens() + of_text.complete.at(0).completion_tokens(),
            static_cast<uint32_t>(context));
}

TEST(VllmEngineTest, ZeroesAreDefaults) {
  Serving serving;
  const Answer answer = Ask(*MakeStub(serving), FromText<engine::GenerateRequest>(R"(
    text: "hello"
    sampling_params { max_tokens: 3 top_p: 0 top_k: 0 min_p: 0 repetition_penalty: 0 n: 0
                      json_object: false spaces_between_special_tokens: true
                      include_stop_str_in_output: true grammar_from_first_token: true }
    data_parallel_rank: 0 kv_transfer_params_json: "")"));
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.complete, SizeIs(1));
}

TEST(VllmEngineTest, WhatCannotBeDoneIsRefusedByName) {
  struct Case {
    const char* request;
    const char* error;
  };
  const Case kCases[] = {
      {"", "input: one of tokenized and text must be set"},
      {"tokenized {}", "tokenized.input_ids: no tokens, at least one is needed"},
      {"tokenized { input_ids: 400 }", "tokenized.input_ids[0]: token id 400 is not below"},
      {"text: 'a' sampling_params { choice {} }", "sampling_params.choice.choices: "},
      {"text: 'a' kv_transfer_params {}", "kv_transfer_params: KV transfer is not supported"},
      {"text: 'a' kv_transfer_params_json: '{}'", "kv_transfer_params_json"},
      {"text: 'a' mm_inputs {}", "mm_inputs: input beside text"},
      {"text: 'a' extra_mm_inputs {}", "extra_mm_inputs"},
      {"text: 'a' media_refs {}", "media_refs"},
      {"text: 'a' data_parallel_rank: 1", "data_parallel_rank: 1: there is one rank"},
      {"text: 'a' sampling_params { n: 17 }", "sampling_params.n: 17 is not in [1, 16]"},
      {"text: 'a' sampling_params { logprobs: -1 }", "sampling_params.logprobs: -1"},
      {"text: 'a' sampling_params { logprobs: 21 }", "sampling_params.logprobs: 21"},
      {"text: 'a' sampling_params { prompt_logprobs: -1 }", "sampling_params.prompt_logprobs: -1"},
      {"text: 'a' sampling_params { truncate_prompt_tokens: 5 }", "truncate_prompt_tokens"},
      {"text: 'a' sampling_params { structural_tag: 'x' }", "sampling_params.structural_tag"},
      {"text: 'a' sampling_params { logit_bias { key: -1 value: 1 } }", "logit_bias[-1]"},
      {"text: 'a' sampling_params { max_tokens: 0 }", "sampling_params.max_tokens: 0 is not in"},
      {"text: 'a' sampling_params { top_p: 2 n: 3 }", "sampling_params.top_p: 2 is not in"},
  };
  Serving serving;
  const auto stub = MakeStub(serving);
  int num_invalid = 0;
  for (const Case& c : kCases) {
    const Answer answer = Ask(*stub, FromText<engine::GenerateRequest>(c.request));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << c.request;
    EXPECT_THAT(answer.status.error_message(), HasSubstr(c.error)) << c.request;
    EXPECT_THAT(answer.complete, IsEmpty());
    // Once, however many samples were asked for.
    EXPECT_EQ(serving.Count("invalid"), ++num_invalid) << c.request;
  }
}

TEST(VllmEngineTest, BytesThatAreNoMessageAreInvalid) {
  Serving serving;
  for (const char* method :
       {"Generate", "Abort", "GetModelInfo", "GetServerInfo", "GetLoads", "HealthCheck"}) {
    const RawAnswer answer = CallRaw(
        serving.channel(), absl::StrCat("/vllm.grpc.engine.VllmEngine/", method), "\x0a\xff");
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
  }
}

const char kLong[] = R"(
  tokenized { input_ids: [5, 6, 7] } stream: true
  sampling_params { temperature: 1 max_tokens: 3000 ignore_eos: true n: 2 })";

TEST(VllmEngineTest, AbortEndsEverySampleOfARequest) {
  Serving serving;
  const auto stub = MakeStub(serving);
  auto request = FromText<engine::GenerateRequest>(kLong);
  request.set_request_id("long");
  grpc::ClientContext context;
  SetPatience(context);
  const auto reader = stub->Generate(&context, request);
  engine::GenerateResponse first;
  ASSERT_TRUE(reader->Read(&first));

  engine::AbortRequest abort;
  abort.add_request_ids("unknown");
  engine::AbortResponse response;
  grpc::ClientContext unknown;
  EXPECT_TRUE(stub->Abort(&unknown, abort, &response).ok());
  EXPECT_EQ(serving.CountAll(), 0);
  abort.add_request_ids("long");
  grpc::ClientContext known;
  EXPECT_TRUE(stub->Abort(&known, abort, &response).ok());

  const Answer answer = ReadAnswer(*reader);
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.complete, SizeIs(2));
  for (const auto& [index, complete] : answer.complete) {
    EXPECT_EQ(complete.finish_reason(), "abort");
    EXPECT_EQ(complete.prompt_tokens(), 3u);
    EXPECT_LT(complete.output_ids_size(), 3000);
  }
  EXPECT_EQ(serving.Count("cancelled"), 2);
  // It is known no more.
  grpc::ClientContext again;
  EXPECT_TRUE(stub->Abort(&again, abort, &response).ok());
}

TEST(VllmEngineTest, RequestsOfOneNameAreAbortedTogether) {
  Serving serving;
  const auto stub = MakeStub(serving);
  auto request = FromText<engine::GenerateRequest>(kLong);
  request.set_request_id("twin");
  grpc::ClientContext contexts[2];
  std::unique_ptr<grpc::ClientReader<engine::GenerateResponse>> readers[2];
  for (int i = 0; i < 2; ++i) {
    readers[i] = stub->Generate(&contexts[i], request);
    engine::GenerateResponse first;
    ASSERT_TRUE(readers[i]->Read(&first));
  }
  engine::AbortRequest abort;
  abort.add_request_ids("twin");
  engine::AbortResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(stub->Abort(&context, abort, &response).ok());
  for (auto& reader : readers) {
    EXPECT_EQ(ReadAnswer(*reader).complete.at(0).finish_reason(), "abort");
  }
}

TEST(VllmEngineTest, CancelEndsEverySample) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, FromText<engine::GenerateRequest>(kLong));
  engine::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(ReadAnswer(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return serving.Count("cancelled") == 2; }));
}

TEST(VllmEngineTest, TellsOfModelServerAndLoad) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext contexts[5];
  engine::HealthCheckResponse health;
  ASSERT_TRUE(stub->HealthCheck(&contexts[0], {}, &health).ok());
  EXPECT_TRUE(health.healthy());
  engine::GetModelInfoResponse model;
  ASSERT_TRUE(stub->GetModelInfo(&contexts[1], {}, &model).ok());
  EXPECT_TRUE(model.is_generation());
  EXPECT_EQ(model.served_model_name(), "fake");
  EXPECT_EQ(model.vocab_size(), 400u);
  engine::GetServerInfoResponse server;
  ASSERT_TRUE(stub->GetServerInfo(&contexts[2], {}, &server).ok());
  EXPECT_EQ(server.data_parallel_size(), 1);
  Ask(*stub, FromText<engine::GenerateRequest>(kRequest));
  engine::GetLoadsResponse loads;
  ASSERT_TRUE(stub->GetLoads(&contexts[3], {}, &loads).ok());
  ASSERT_EQ(loads.loads_size(), 1);
  EXPECT_EQ(loads.loads(0).max_total_num_tokens(), 4096 * 4);
  EXPECT_EQ(loads.loads(0).num_total_reqs(), 0);
  EXPECT_GT(loads.loads(0).gen_throughput(), 0);
}

TEST(VllmEngineTest, WhatIsNotServedSaysSo) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext embed;
  engine::EmbedResponse embedding;
  const grpc::Status status = stub->Embed(&embed, {}, &embedding);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("embeddings"));
  grpc::ClientContext subscribe;
  smg::grpc::common::KvEventBatch batch;
  const auto reader = stub->SubscribeKvEvents(&subscribe, {});
  EXPECT_FALSE(reader->Read(&batch));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(VllmEngineTest, SendsTheTokenizerInChunks) {
  const TempFolder folder;
  std::ofstream(folder / "tokenizer.json") << std::string(100000, 'x');
  std::ofstream(folder / "config.json") << "{}";
  std::ofstream(folder / "model.safetensors") << "weights";
  ServingOptions options;
  options.folder = folder.path();
  Serving serving(options);
  const auto stub = MakeStub(serving);
  grpc::ClientContext context;
  const auto reader = stub->GetTokenizer(&context, {});
  smg::grpc::common::GetTokenizerChunk chunk;
  std::vector<size_t> sizes;
  std::string bytes;
  std::string sha256;
  while (reader->Read(&chunk)) {
    EXPECT_THAT(sha256, IsEmpty());  // only the last one has it
    sha256 = chunk.sha256();
    sizes.push_back(chunk.data().size());
    bytes += chunk.data();
  }
  EXPECT_TRUE(reader->Finish().ok());
  const auto expected =
      MakeArchive({{"config.json", "{}"}, {"tokenizer.json", std::string(100000, 'x')}});
  EXPECT_EQ(bytes, expected->bytes);
  EXPECT_EQ(sha256, expected->sha256);
  EXPECT_THAT(sizes, ElementsAre(65536, bytes.size() - 65536));
}

TEST(VllmEngineTest, AFolderWithoutTokenizerIsNotFound) {
  const TempFolder folder;
  ServingOptions options;
  options.folder = folder.path();
  Serving serving(options);
  const auto stub = MakeStub(serving);
  grpc::ClientContext context;
  const auto reader = stub->GetTokenizer(&context, {});
  smg::grpc::common::GetTokenizerChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace adamoe
