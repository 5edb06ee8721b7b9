// inference.GRPCInferenceService through real gRPC, on an executor with a model without weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <open_inference/grpc_service.grpc.pb.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using testing::HasSubstr;
using testing::IsEmpty;

using Stub = inference::GRPCInferenceService::Stub;

std::unique_ptr<Stub> MakeStub(const Serving& serving) {
  return inference::GRPCInferenceService::NewStub(serving.channel());
}

ModelInferRequest::InferInputTensor* AddTensor(const std::string& name, const char* datatype,
                                               ModelInferRequest& request) {
  auto* tensor = request.add_inputs();
  tensor->set_name(name);
  tensor->set_datatype(datatype);
  tensor->add_shape(1);
  return tensor;
}

// As contents of the tensor.
void AddText(const std::string& name, const std::string& text, ModelInferRequest& request) {
  AddTensor(name, "BYTES", request)->mutable_contents()->add_bytes_contents(text);
}
void AddBool(const std::string& name, bool value, ModelInferRequest& request) {
  AddTensor(name, "BOOL", request)->mutable_contents()->add_bool_contents(value);
}

std::string RawText(const std::string& text) {
  std::string raw;
  for (int shift = 0; shift < 32; shift += 8)
    raw.push_back(static_cast<char>(text.size() >> shift));
  return raw + text;
}

// The same request with its contents as raw bytes.
ModelInferRequest AsRaw(ModelInferRequest request) {
  for (auto& tensor : *request.mutable_inputs()) {
    const auto& contents = tensor.contents();
    request.add_raw_input_contents(contents.bytes_contents().empty()
                                       ? std::string(1, contents.bool_contents(0) ? '\1' : '\0')
                                       : RawText(contents.bytes_contents(0)));
    tensor.clear_contents();
  }
  return request;
}

ModelInferRequest MakeRequest(const std::string& prompt, const std::string& sampling) {
  ModelInferRequest request;
  request.set_model_name("fake");
  request.set_id("mine");
  AddText("text_input", prompt, request);
  AddText("sampling_parameters", sampling, request);
  return request;
}

// Name -> raw bytes of an output; checks what C++ clients rely on.
std::map<std::string, std::string> OutputsOf(const ModelInferResponse& response) {
  std::map<std::string, std::string> outputs;
  EXPECT_EQ(response.outputs_size(), response.raw_output_contents_size());
  for (int i = 0; i < response.outputs_size(); ++i) {
    EXPECT_FALSE(response.outputs(i).has_contents());
    outputs[response.outputs(i).name()] = response.raw_output_contents(i);
  }
  return outputs;
}

std::string TextOf(const std::string& raw) {
  EXPECT_GE(raw.size(), 4u);
  EXPECT_EQ(raw, RawText(raw.substr(4)));
  return raw.substr(4);
}

uint32_t NumberOf(const std::string& raw) {
  EXPECT_EQ(raw.size(), 4u);
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(raw[i]);
  return value;
}

bool IsFinal(const ModelInferResponse& response) {
  const auto found = response.parameters().find("triton_final_response");
  EXPECT_NE(found, response.parameters().end());
  EXPECT_TRUE(found->second.has_bool_param());
  return found->second.bool_param();
}

struct Inferred {
  grpc::Status status;
  ModelInferResponse response;
};

Inferred Infer(Stub& stub, const ModelInferRequest& request) {
  grpc::ClientContext context;
  SetPatience(context);
  Inferred inferred;
  inferred.status = stub.ModelInfer(&context, request, &inferred.response);
  return inferred;
}

// A stream of requests, read to its end.
struct Streamed {
  std::vector<ModelStreamInferResponse> messages;
  grpc::Status status;
  std::map<std::string, std::string> texts;  // by id, of those that went well
  std::map<std::string, std::string> errors;
  std::set<std::string> finished;
};

Streamed Stream(Stub& stub, const std::vector<ModelInferRequest>& requests,
                bool grpc_errors = false) {
  grpc::ClientContext context;
  SetPatience(context);
  if (grpc_errors) context.AddMetadata("triton_grpc_error", "true");
  const auto stream = stub.ModelStreamInfer(&context);
  std::thread writer([&] {
    for (const ModelInferRequest& request : requests) {
      if (!stream->Write(request)) return;
    }
    stream->WritesDone();
  });
  Streamed streamed;
  ModelStreamInferResponse message;
  while (stream->Read(&message)) {
    const ModelInferResponse& response = message.infer_response();
    EXPECT_EQ(response.model_name(), "fake");
    EXPECT_EQ(streamed.finished.count(response.id()), 0u) << response.id();
    if (IsFinal(response)) streamed.finished.insert(response.id());
    if (message.error_message().empty()) {
      const auto outputs = OutputsOf(response);
      streamed.texts[response.id()] += TextOf(outputs.at("text_output"));
    } else {
      EXPECT_TRUE(IsFinal(response));
      streamed.errors[response.id()] = message.error_message();
    }
    streamed.messages.push_back(message);
  }
  writer.join();
  streamed.status = stream->Finish();
  return streamed;
}

const char kSampling[] = R"({"temperature": "1", "max_tokens": "20", "seed": 5})";
const char kGenerate[] = "sampling { temperature: 1 max_tokens: 20 seed: 5 }";

std::string TextByGenerate(Serving& serving, const std::string& prompt) {
  return Generate(serving.stub(), absl::StrCat(kGenerate, " prompt: '", prompt, "'")).text;
}

TEST(OpenInferenceTest, DescribesServerAndModel) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext contexts[7];
  inference::ServerLiveResponse live;
  ASSERT_TRUE(stub->ServerLive(&contexts[0], {}, &live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(stub->ServerReady(&contexts[1], {}, &ready).ok());
  EXPECT_TRUE(ready.ready());
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(stub->ServerMetadata(&contexts[2], {}, &server).ok());
  EXPECT_EQ(server.name(), "adamoe");
  inference::ModelReadyRequest name;
  name.set_name("fake");
  inference::ModelReadyResponse model_ready;
  ASSERT_TRUE(stub->ModelReady(&contexts[3], name, &model_ready).ok());
  EXPECT_TRUE(model_ready.ready());
  name.set_name("other");
  ASSERT_TRUE(stub->ModelReady(&contexts[4], name, &model_ready).ok());
  EXPECT_FALSE(model_ready.ready());

  inference::ModelMetadataRequest which;
  which.set_name("fake");
  inference::ModelMetadataResponse metadata;
  ASSERT_TRUE(stub->ModelMetadata(&contexts[5], which, &metadata).ok());
  inference::ModelConfigRequest same;
  same.set_name("fake");
  inference::ModelConfigResponse config;
  ASSERT_TRUE(stub->ModelConfig(&contexts[6], same, &config).ok());
  EXPECT_TRUE(config.config().model_transaction_policy().decoupled());
  EXPECT_EQ(config.config().max_batch_size(), 0);
  ASSERT_EQ(metadata.inputs_size(), config.config().input_size());
  ASSERT_EQ(metadata.outputs_size(), config.config().output_size());
  for (int i = 0; i < metadata.inputs_size(); ++i) {
    EXPECT_EQ(metadata.inputs(i).name(), config.config().input(i).name());
    EXPECT_EQ(config.config().input(i).optional(), metadata.inputs(i).name() != "text_input");
  }
  EXPECT_EQ(metadata.inputs(0).datatype(), "BYTES");
  EXPECT_EQ(metadata.outputs(0).name(), "text_output");
}

TEST(OpenInferenceTest, InferGivesTheTextOfGenerateWithThePromptInFront) {
  Serving serving;
  const std::string expected = TextByGenerate(serving, "hello");
  ModelInferRequest request = MakeRequest("hello", kSampling);
  const auto stub = MakeStub(serving);
  for (const ModelInferRequest& form : {request, AsRaw(request)}) {
    const Inferred inferred = Infer(*stub, form);
    ASSERT_TRUE(inferred.status.ok()) << inferred.status.error_message();
    EXPECT_EQ(inferred.response.id(), "mine");
    EXPECT_EQ(inferred.response.model_version(), "1");
    EXPECT_TRUE(IsFinal(inferred.response));
    const auto outputs = OutputsOf(inferred.response);
    EXPECT_EQ(outputs.size(), 1u);
    EXPECT_EQ(TextOf(outputs.at("text_output")), "hello" + expected);
  }
  AddBool("exclude_input_in_output", true, request);
  const auto outputs = OutputsOf(Infer(*stub, AsRaw(request)).response);
  EXPECT_EQ(TextOf(outputs.at("text_output")), expected);
  EXPECT_EQ(serving.Count("ok"), 4);
}

TEST(OpenInferenceTest, OutputsComeWhenAskedFor) {
  Serving serving;
  const Generated generated =
      Generate(serving.stub(), absl::StrCat(kGenerate, " prompt: 'hello' logprobs: 0"));
  ModelInferRequest request = MakeRequest("hello", kSampling);
  for (const char* flag :
       {"return_finish_reason", "return_cumulative_logprob", "return_logprobs",
        "return_num_input_tokens", "return_num_output_tokens", "return_experts"}) {
    AddBool(flag, true, request);
  }
  const auto stub = MakeStub(serving);
  const auto outputs = OutputsOf(Infer(*stub, request).response);
  EXPECT_EQ(outputs.size(), 7u);
  EXPECT_EQ(TextOf(outputs.at("finish_reason")), "length");
  EXPECT_EQ(NumberOf(outputs.at("num_input_tokens")),
            generated.all.finish().usage().prompt_tokens());
  EXPECT_EQ(NumberOf(outputs.at("num_output_tokens")), 20u);
  double sum = 0;
  std::string experts;
  for (const auto& token : generated.all.tokens()) {
    sum += token.logprob();
    experts += std::string{static_cast<char>(token.experts()), 0, 0, 0};
  }
  const uint32_t bits = NumberOf(outputs.at("cumulative_logprob"));
  float cumulative;
  std::memcpy(&cumulative, &bits, sizeof cumulative);
  EXPECT_FLOAT_EQ(cumulative, static_cast<float>(sum));
  EXPECT_EQ(outputs.at("experts"), experts);
  EXPECT_THAT(TextOf(outputs.at("logprobs")), HasSubstr("\"decoded_token\""));

  // Named outputs leave the others out.
  request.add_outputs()->set_name("num_output_tokens");
  const auto named = OutputsOf(Infer(*stub, request).response);
  ASSERT_EQ(named.size(), 1u);
  EXPECT_EQ(named.begin()->first, "num_output_tokens");
}

TEST(OpenInferenceTest, StreamsOfManyRequestsInterleave) {
  Serving serving;
  std::vector<ModelInferRequest> requests;
  std::map<std::string, std::string> expected;
  for (int i = 0; i < 8; ++i) {
    const std::string prompt = absl::StrCat("prompt ", i);
    ModelInferRequest request = MakeRequest(prompt, kSampling);
    request.set_id(absl::StrCat("r", i));
    // The last one is answered at once.
    AddBool("stream", i != 7, request);
    requests.push_back(i % 2 == 0 ? request : AsRaw(request));
    expected[request.id()] = (i == 7 ? prompt : "") + TextByGenerate(serving, prompt);
  }
  const auto stub = MakeStub(serving);
  // While another one is held, all of them come; so all run at once.
  serving.gate().Close();
  std::thread other([&] { TextByGenerate(serving, "another"); });
  EXPECT_TRUE(serving.gate().AwaitHeld());
  std::thread opener([&] {
    EXPECT_TRUE(Eventually([&] { return serving.queue().num_waiting() == 8; }));
    serving.gate().Open();
  });
  const Streamed streamed = Stream(*stub, requests);
  opener.join();
  other.join();
  ASSERT_TRUE(streamed.status.ok()) << streamed.status.error_message();
  EXPECT_EQ(streamed.texts, expected);
  EXPECT_EQ(streamed.finished.size(), 8u);
  EXPECT_THAT(streamed.errors, IsEmpty());
  // Deltas of several, not one after the other.
  std::set<std::string> early;
  for (size_t i = 0; i < streamed.messages.size() / 2; ++i) {
    early.insert(streamed.messages[i].infer_response().id());
  }
  EXPECT_GT(early.size(), 1u);
}

TEST(OpenInferenceTest, AThousandRequestsOnAStreamAreAllAnswered) {
  ServingOptions options;
  options.max_queued = 256;
  Serving serving(options);
  std::vector<ModelInferRequest> requests;
  for (int i = 0; i < 1000; ++i) {
    ModelInferRequest request =
        MakeRequest(absl::StrCat("number ", i), R"({"max_tokens": 2, "temperature": 0})");
    request.set_id(absl::StrCat(i));
    requests.push_back(request);
  }
  const Streamed streamed = Stream(*MakeStub(serving), requests);
  EXPECT_TRUE(streamed.status.ok());
  EXPECT_EQ(streamed.texts.size(), 1000u);
  EXPECT_EQ(streamed.finished.size(), 1000u);
  EXPECT_THAT(streamed.errors, IsEmpty());
  EXPECT_EQ(serving.Count("ok"), 1000);
}

TEST(OpenInferenceTest, OnlySoManyRequestsOfAStreamAreUnderWay) {
  ServingOptions options;
  options.max_queued = 1000;
  Serving serving(options);
  std::vector<ModelInferRequest> requests;
  for (int i = 0; i < 300; ++i) {
    requests.push_back(MakeRequest("x", R"({"max_tokens": 1})"));
    requests.back().set_id(absl::StrCat(i));
  }
  serving.gate().Close();
  const auto stub = MakeStub(serving);
  std::thread opener([&] {
    EXPECT_TRUE(serving.gate().AwaitHeld());
    EXPECT_TRUE(Eventually([&] { return serving.queue().num_waiting() >= 64; }));
    absl::SleepFor(absl::Milliseconds(50));
    EXPECT_LE(serving.queue().num_waiting(), 128u);
    serving.gate().Open();
  });
  const Streamed streamed = Stream(*stub, requests);
  opener.join();
  EXPECT_EQ(streamed.finished.size(), 300u);
}

TEST(OpenInferenceTest, AFailedRequestLeavesItsStreamOpen) {
  Serving serving;
  ModelInferRequest good = MakeRequest("a", kSampling);
  good.set_id("good");
  ModelInferRequest bad = MakeRequest("a", R"({"max_tokens": 0})");
  bad.set_id("bad");
  ModelInferRequest unknown = good;
  unknown.set_model_name("other");
  unknown.set_id("unknown");
  const Streamed streamed = Stream(*MakeStub(serving), {bad, unknown, good});
  EXPECT_TRUE(streamed.status.ok());
  EXPECT_EQ(streamed.texts.at("good"), "a" + TextByGenerate(serving, "a"));
  EXPECT_THAT(streamed.errors.at("bad"), HasSubstr("max_tokens"));
  EXPECT_THAT(streamed.errors.at("unknown"), HasSubstr("no model \"other\""));
  EXPECT_EQ(serving.Count("invalid"), 2);
}

TEST(OpenInferenceTest, WithGrpcErrorsAFailedRequestEndsItsStream) {
  Serving serving;
  ModelInferRequest bad = MakeRequest("a", R"({"max_tokens": 0})");
  ModelInferRequest longer = MakeRequest("a", R"({"max_tokens": 3000, "ignore_eos": true})");
  longer.set_id("longer");
  const Streamed streamed = Stream(*MakeStub(serving), {longer, bad}, /*grpc_errors=*/true);
  EXPECT_EQ(streamed.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(streamed.status.error_message(), HasSubstr("max_tokens"));
  EXPECT_TRUE(Eventually([&] { return serving.CountAll() == 2; }));
  EXPECT_EQ(serving.Count("cancelled"), 1);
}

TEST(OpenInferenceTest, CancelAbandonsEveryRequest) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext context;
  const auto stream = stub->ModelStreamInfer(&context);
  for (int i = 0; i < 5; ++i) {
    ModelInferRequest request =
        MakeRequest("a", R"({"max_tokens": 3000, "ignore_eos": true, "temperature": 1})");
    request.set_id(absl::StrCat(i));
    AddBool("stream", true, request);
    ASSERT_TRUE(stream->Write(request));
  }
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  ASSERT_TRUE(Eventually([&] { return serving.metrics().load().num_running == 5; }));
  context.TryCancel();
  while (stream->Read(&message)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return serving.metrics().load().num_running == 0; }));
  EXPECT_TRUE(Eventually([&] { return serving.Count("cancelled") == 5; }));
}

TEST(OpenInferenceTest, AnIdleStreamIsNoHindrance) {
  Serving serving;
  const auto stub = MakeStub(serving);
  grpc::ClientContext context;
  const auto stream = stub->ModelStreamInfer(&context);
  EXPECT_TRUE(Infer(*stub, MakeRequest("a", "{}")).status.ok());
  stream->WritesDone();
  ModelStreamInferResponse message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(serving.CountAll(), 1);
}

TEST(OpenInferenceTest, TimeoutEndsARequest) {
  Serving serving;
  ModelInferRequest request = MakeRequest("a", R"({"max_tokens": 5})");
  (*request.mutable_parameters())["timeout"].set_int64_param(20000);  // microseconds
  const auto stub = MakeStub(serving);
  serving.gate().Close();
  Inferred inferred;
  std::thread client([&] { inferred = Infer(*stub, request); });
  EXPECT_TRUE(serving.gate().AwaitHeld());
  absl::SleepFor(absl::Milliseconds(40));
  serving.gate().Open();
  client.join();
  EXPECT_EQ(inferred.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(serving.Count("deadline"), 1);
}

TEST(OpenInferenceTest, HostileRequestsAreRefusedByName) {
  using Change = void (*)(ModelInferRequest&);
  struct Case {
    Change change;
    const char* error;
  };
  const Case kCases[] = {
      {[](auto& r) { r.clear_inputs(); }, "inputs.text_input: is missing"},
      {[](auto& r) { AddText("text_input", "b", r); }, "inputs.text_input: is there twice"},
      {[](auto& r) { AddText("image", "b", r); }, "inputs.image: is no input"},
      {[](auto& r) { r.mutable_inputs(0)->set_datatype("INT32"); }, "its datatype is BYTES"},
      {[](auto& r) { r.mutable_inputs(0)->clear_shape(); }, "inputs.text_input.shape: [] is not"},
      {[](auto& r) { r.mutable_inputs(0)->set_shape(0, 2); }, "[2] is not [1]"},
      {[](auto& r) { r.mutable_inputs(0)->set_shape(0, -1); }, "[-1] is not [1]"},
      {[](auto& r) { r.mutable_inputs(0)->add_shape(1LL << 62); }, "is not [1]"},
      {[](auto& r) { r.mutable_inputs(0)->mutable_contents()->add_bytes_contents("b"); },
       "2 elements in contents.bytes_contents"},
      {[](auto& r) { r.mutable_inputs(0)->clear_contents(); }, "0 elements"},
      {[](auto& r) { r.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, "\xff"); },
       "inputs.text_input: is not UTF-8 at byte 0 of 1"},
      {[](auto& r) { r.add_raw_input_contents("x"); }, "1 entries for 2 inputs"},
      {[](auto& r) {
         r = AsRaw(r);
         r.set_raw_input_contents(0, std::string("\xff\xff\xff\xff", 4) + "a");
       },
       "the length of its element is 4294967295, but 1 raw bytes follow"},
      {[](auto& r) {
         r = AsRaw(r);
         r.set_raw_input_contents(0, "ab");
       },
       "2 raw bytes do not hold the length"},
      {[](auto& r) {
         r = AsRaw(r);
         r.mutable_raw_input_contents(0)->append("more");
       },
       "raw bytes follow"},
      {[](auto& r) {
         r = AsRaw(r);
         r.mutable_inputs(0)->mutable_contents()->add_bytes_contents("a");
       },
       "has contents beside raw_input_contents"},
      {[](auto& r) {
         AddBool("stream", true, r);
         r = AsRaw(r);
         r.set_raw_input_contents(2, "abc");
       },
       "inputs.stream: 3 raw bytes, a BOOL takes one"},
      {[](auto& r) { AddBool("stream", true, r); }, "inputs.stream: true needs ModelStreamInfer"},
      {[](auto& r) {
         (*r.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("x");
       },
       "is in shared memory"},
      {[](auto& r) { r.add_outputs()->set_name("logits"); }, "outputs.logits: is no output"},
      {[](auto& r) { (*r.mutable_parameters())["timeout"].set_int64_param(-1); },
       "parameters.timeout"},
      {[](auto& r) { (*r.mutable_parameters())["timeout"].set_string_param("x"); },
       "parameters.timeout"},
      {[](auto& r) { (*r.mutable_parameters())["priority"].clear_parameter_choice(); },
       "parameters.priority"},
      {[](auto& r) {
         (*r.mutable_parameters())["triton_enable_empty_final_response"].set_int64_param(1);
       },
       "parameters.triton_enable_empty_final_response: is not a bool"},
      {[](auto& r) { (*r.mutable_parameters())["null_bias"].set_string_param("x"); },
       "parameters.null_bias: \"x\" is not a number"},
      {[](auto& r) {
         r.mutable_inputs()->DeleteSubrange(1, 1);
         (*r.mutable_parameters())["nonsense"].set_bool_param(true);
       },
       "parameters.nonsense: is not a parameter"},
      {[](auto& r) { r.set_id(std::string(129, 'x')); }, "id: 129 bytes, at most 128"},
      {[](auto& r) { r = MakeRequest("a", R"({"top_p": 2})"); },
       "sampling_parameters.top_p: 2 is not in"},
      {[](auto& r) { r = MakeRequest("a", R"({"max_experts_per_token": 0})"); },
       "sampling_parameters.max_experts_per_token: 0"},
      {[](auto& r) { r = MakeRequest(std::string(50000, 'a'), kSampling); }, "inputs.text_input: "},
  };
  Serving serving;
  const auto stub = MakeStub(serving);
  int num_invalid = 0;
  for (const Case& c : kCases) {
    ModelInferRequest request = MakeRequest("a", kSampling);
    c.change(request);
    const Inferred inferred = Infer(*stub, request);
    EXPECT_EQ(inferred.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << c.error;
    EXPECT_THAT(inferred.status.error_message(), HasSubstr(c.error));
    EXPECT_EQ(serving.Count("invalid"), ++num_invalid);
  }
  EXPECT_EQ(serving.CountAll(), num_invalid);
}

TEST(OpenInferenceTest, BytesThatAreNoMessageAreInvalid) {
  Serving serving;
  for (const char* method : {"ModelInfer", "ModelMetadata", "ModelConfig", "ModelReady"}) {
    const RawAnswer answer = CallRaw(
        serving.channel(), absl::StrCat("/inference.GRPCInferenceService/", method), "\x0a\xff");
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
  }
  EXPECT_EQ(serving.Count("invalid"), 1);
}

TEST(OpenInferenceTest, AnotherModelOrVersionIsNotFound) {
  Serving serving;
  const auto stub = MakeStub(serving);
  ModelInferRequest request = MakeRequest("a", kSampling);
  request.set_model_version("2");
  EXPECT_EQ(Infer(*stub, request).status.error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_model_version("1");
  EXPECT_TRUE(Infer(*stub, request).status.ok());
  request.set_model_name("");
  EXPECT_EQ(Infer(*stub, request).status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(serving.Count("invalid"), 2);
}

}  // namespace
}  // namespace adamoe
