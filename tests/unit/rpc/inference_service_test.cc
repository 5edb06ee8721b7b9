// The service through real gRPC, on an executor with a model without weights.
#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

const char kGreedy[] =
    "prompt_tokens { ids: [5, 6, 7, 8, 9] } sampling { temperature: 0 max_tokens: 20 }";

std::vector<uint32_t> IdsOf(const v1::GenerateResponse& response) {
  std::vector<uint32_t> ids;
  for (const auto& token : response.tokens()) ids.push_back(token.id());
  return ids;
}

TEST(GenerateTest, StreamsTokensTextAndUsage) {
  Serving serving;
  const Generated generated = Generate(
      serving.stub(), std::string(kGreedy) + " request_id: 'mine' experts_per_layer: true");
  ASSERT_TRUE(generated.status.ok()) << generated.status.error_message();
  EXPECT_EQ(generated.all.request_id(), "mine");
  EXPECT_EQ(generated.all.tokens_size(), 20);
  EXPECT_EQ(generated.all.finish().reason(), v1::LENGTH);
  const v1::Usage& usage = generated.all.finish().usage();
  EXPECT_EQ(usage.prompt_tokens(), 5);
  EXPECT_EQ(usage.completion_tokens(), 20);
  // 24 positions, two layers, three picks.
  EXPECT_EQ(usage.true_slots() + usage.null_slots() + usage.dropped_slots(), 24 * 2 * 3);
  EXPECT_EQ(usage.executed_expert_flops(), usage.true_slots() * 1000);
  EXPECT_EQ(usage.baseline_expert_flops(), 24 * 2 * 2 * 1000);
  for (const auto& token : generated.all.tokens()) {
    ASSERT_EQ(token.experts_per_layer_size(), 2);
    EXPECT_EQ(token.experts(), token.experts_per_layer(0) + token.experts_per_layer(1));
    EXPECT_FALSE(token.has_logprob());
  }
  EXPECT_EQ(serving.Count("ok"), 1);
  EXPECT_EQ(serving.CountAll(), 1);
}

TEST(GenerateTest, TextIsThatOfTheTokens) {
  Serving serving;
  const Generated generated = Generate(serving.stub(), kGreedy);
  std::vector<int32_t> ids;
  for (const uint32_t id : IdsOf(generated.all)) ids.push_back(static_cast<int32_t>(id));
  // After a first token, so that no leading space is dropped.
  ids.insert(ids.begin(), serving.tokenizer().TokenId("a"));
  EXPECT_EQ("a" + generated.text, *serving.tokenizer().Decode(ids));
}

TEST(GenerateTest, LogprobsComeWhenAskedFor) {
  Serving serving;
  const Generated generated =
      Generate(serving.stub(), std::string(kGreedy) + " logprobs: 3 prompt_logprobs: true");
  ASSERT_TRUE(generated.status.ok()) << generated.status.error_message();
  for (const auto& token : generated.all.tokens()) {
    EXPECT_LE(token.logprob(), 0);
    ASSERT_EQ(token.top_logprobs_size(), 3);
    EXPECT_EQ(token.top_logprobs(0).id(), token.id());  // greedy
  }
  ASSERT_EQ(generated.all.prompt_tokens_info_size(), 5);
  EXPECT_FALSE(generated.all.prompt_tokens_info(0).has_logprob());
  EXPECT_TRUE(generated.all.prompt_tokens_info(4).has_logprob());
  EXPECT_EQ(generated.all.prompt_tokens_info(4).id(), 9);
}

TEST(GenerateTest, AStopStringCutsTheText) {
  Serving serving;
  const Generated whole = Generate(serving.stub(), kGreedy);
  // Some bytes of it in the middle that make a string.
  size_t begin = whole.text.size() / 2;
  while (begin < whole.text.size() && (whole.text[begin] & 0x80) != 0) ++begin;
  ASSERT_LT(begin, whole.text.size());
  auto request = FromText<v1::GenerateRequest>(kGreedy);
  request.mutable_sampling()->add_stop(whole.text.substr(begin, 1));
  const Generated cut = Generate(serving.stub(), request);
  ASSERT_TRUE(cut.status.ok());
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(request.sampling().stop(0))));
  EXPECT_EQ(cut.all.finish().reason(), v1::STOP_SEQUENCE);
  EXPECT_LT(cut.all.tokens_size(), 20);
  EXPECT_EQ(cut.all.finish().usage().completion_tokens(), cut.all.tokens_size());
}

TEST(GenerateTest, AStopTokenEndsItAndIsListed) {
  Serving serving;
  const std::vector<uint32_t> ids = IdsOf(Generate(serving.stub(), kGreedy).all);
  auto request = FromText<v1::GenerateRequest>(kGreedy);
  request.mutable_sampling()->add_stop_token_ids(ids[7]);
  const Generated stopped = Generate(serving.stub(), request);
  EXPECT_EQ(stopped.all.finish().reason(), v1::STOP_TOKEN);
  const size_t first = std::find(ids.begin(), ids.end(), ids[7]) - ids.begin();
  EXPECT_THAT(IdsOf(stopped.all), ElementsAreArray(ids.begin(), ids.begin() + first + 1));
}

TEST(GenerateTest, ManyAtOnceGetWhatTheyGetAlone) {
  Serving serving;
  constexpr int kRequests = 24;
  std::vector<v1::GenerateRequest> requests(kRequests);
  std::vector<Generated> alone(kRequests);
  for (int i = 0; i < kRequests; ++i) {
    requests[i] = FromText<v1::GenerateRequest>("sampling { max_tokens: 40 }");
    requests[i].mutable_sampling()->set_seed(i);
    for (int j = 0; j <= i; ++j) requests[i].mutable_prompt_tokens()->add_ids(10 + i * j % 97);
    alone[i] = Generate(serving.stub(), requests[i]);
  }
  std::vector<Generated> together(kRequests);
  std::vector<std::thread> threads;
  for (int i = 0; i < kRequests; ++i) {
    threads.emplace_back([&, i] { together[i] = Generate(serving.stub(), requests[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_TRUE(together[i].status.ok());
    EXPECT_EQ(together[i].text, alone[i].text) << i;
    EXPECT_EQ(IdsOf(together[i].all), IdsOf(alone[i].all)) << i;
  }
  EXPECT_EQ(serving.Count("ok"), 2 * kRequests);
  EXPECT_EQ(serving.CountAll(), 2 * kRequests);
}

TEST(GenerateTest, ABadFieldIsNamedInTheDetails) {
  Serving serving;
  const Generated generated = Generate(serving.stub(), "prompt: 'x' sampling { top_p: 2 }");
  EXPECT_EQ(generated.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  google::rpc::BadRequest detail;
  ASSERT_TRUE(GetDetail(generated.status, &detail));
  EXPECT_EQ(detail.field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(serving.Count("invalid"), 1);
  EXPECT_EQ(serving.CountAll(), 1);
}

TEST(GenerateTest, BytesThatAreNoMessageAreAnInvalidArgument) {
  Serving serving;
  for (const char* method :
       {"Generate", "Score", "Tokenize", "Detokenize", "GetModelInfo", "GetLoad"}) {
    const RawAnswer answer =
        CallRaw(serving.channel(), absl::StrCat("/adamoe.v1.Inference/", method), "\xff\xff\xff");
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_THAT(answer.status.error_message(), HasSubstr("not a well-formed adamoe.v1."));
  }
  EXPECT_EQ(serving.Count("invalid"), 2);  // Generate and Score
}

TEST(GenerateTest, TextThatIsNotUtf8IsAnInvalidArgument) {
  Serving serving;
  const RawAnswer answer =
      CallRaw(serving.channel(), "/adamoe.v1.Inference/Generate", "\x12\x03\x61\xff\x62");
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("prompt: is not UTF-8 at byte 1 of 3"));
}

TEST(GenerateTest, AMessageThatIsTooLargeIsRefused) {
  Serving serving;
  v1::TokenizeRequest request;
  request.set_text(std::string(17 << 20, 'x'));
  grpc::ClientContext context;
  SetPatience(context);
  v1::TokenizeResponse response;
  EXPECT_EQ(serving.stub().Tokenize(&context, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(GenerateTest, CancelEndsTheRequest) {
  Serving serving;
  grpc::ClientContext context;
  const auto reader = serving.stub().Generate(
      &context,
      FromText<v1::GenerateRequest>("prompt_tokens { ids: 5 } sampling { max_tokens: 4000 }"));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return serving.Count("cancelled") == 1; }));
  EXPECT_TRUE(Eventually([&] { return serving.metrics().load().num_running == 0; }));
  EXPECT_EQ(serving.CountAll(), 1);
}

TEST(GenerateTest, ADeadlineEndsTheRequest) {
  Serving serving;
  const auto request = FromText<v1::GenerateRequest>(kGreedy);
  constexpr absl::Duration kDeadline = absl::Milliseconds(400);
  RunPastDeadline(serving, kDeadline, [&] {
    EXPECT_EQ(Generate(serving.stub(), request, kDeadline).status.error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  EXPECT_TRUE(Eventually([&] { return serving.CountAll() == 1; }));
  EXPECT_EQ(serving.Count("deadline"), 1);
}

TEST(GenerateTest, AFullQueueSaysWhenToComeBack) {
  ServingOptions options;
  options.max_queued = 2;
  options.executor.max_running_requests = 1;
  Serving serving(options);
  serving.gate().Close();
  const auto request = FromText<v1::GenerateRequest>(kGreedy);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  const auto start = [&] {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    SetPatience(*contexts.back());
    readers.push_back(serving.stub().Generate(contexts.back().get(), request));
  };
  start();
  ASSERT_TRUE(serving.gate().AwaitHeld());  // the first runs; the others wait
  start();
  start();
  ASSERT_TRUE(Eventually([&] { return serving.queue().num_waiting() >= 2; }));
  const Generated refused = Generate(serving.stub(), request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(GetDetail(refused.status, &retry));
  EXPECT_GT(retry.retry_delay().seconds(), 0);
  EXPECT_EQ(serving.Count("rejected"), 1);
  serving.gate().Open();
  for (const auto& reader : readers) EXPECT_TRUE(ReadAll(*reader).status.ok());
  EXPECT_EQ(serving.Count("ok"), 3);
}

TEST(GenerateTest, AClosedQueueIsUnavailable) {
  Serving serving;
  serving.queue().Close();
  EXPECT_EQ(Generate(serving.stub(), kGreedy).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(serving.Count("rejected"), 1);
}

TEST(GenerateTest, AFailedStepIsAnError) {
  ServingOptions options;
  options.faults.fail_step = 3;
  Serving serving(options);
  const Generated failed = Generate(serving.stub(), kGreedy);
  EXPECT_EQ(failed.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(failed.all.tokens_size(), 3);  // what was made before still came
  EXPECT_EQ(serving.Count("error"), 1);
  EXPECT_TRUE(Generate(serving.stub(), kGreedy).status.ok());
}

TEST(GenerateTest, AReaderThatStopsReadingHoldsBackNobody) {
  Serving serving;
  const auto large = FromText<v1::GenerateRequest>(
      "prompt_tokens { ids: 5 } sampling { max_tokens: 4000 seed: 1 } logprobs: 20");
  const auto stuck_channel = serving.MakeChannel();
  const auto stuck_stub = v1::Inference::NewStub(stuck_channel);
  grpc::ClientContext context;
  SetPatience(context);
  const auto stuck = stuck_stub->Generate(&context, large);
  for (int i = 0; i < 3; ++i) {
    const Generated other = Generate(serving.stub(), kGreedy);
    EXPECT_TRUE(other.status.ok());
    EXPECT_EQ(other.all.tokens_size(), 20);
  }
  // The executor is done with it long before anything is read.
  EXPECT_TRUE(Eventually([&] {
    const LoadReport load = serving.metrics().load();
    return load.num_running == 0 && load.num_waiting == 0;
  }));
  const Generated late = ReadAll(*stuck);
  EXPECT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.all.tokens_size(), 4000);
  EXPECT_LT(late.num_messages, 1000);  // what had waited came together
  EXPECT_EQ(serving.Count("ok"), 4);
}

TEST(GenerateTest, AReaderThatVanishesWhileStuckEndsItsCall) {
  Serving serving;
  {
    const auto channel = serving.MakeChannel();
    const auto stub = v1::Inference::NewStub(channel);
    grpc::ClientContext context;
    const auto stuck = stub->Generate(
        &context, FromText<v1::GenerateRequest>(
                      "prompt_tokens { ids: 5 } sampling { max_tokens: 4000 } logprobs: 20"));
    v1::GenerateResponse message;
    ASSERT_TRUE(stuck->Read(&message));
    context.TryCancel();
    stuck->Finish();
  }
  EXPECT_TRUE(Eventually([&] { return serving.Count("cancelled") == 1; }));
}

TEST(InferenceServiceTest, TokenizesBothWays) {
  Serving serving;
  v1::TokenizeResponse tokens;
  {
    grpc::ClientContext context;
    const auto status = serving.stub().Tokenize(
        &context, FromText<v1::TokenizeRequest>("text: 'hi there'"), &tokens);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(tokens.ids(0), 1);  // BOS
  }
  {
    grpc::ClientContext context;
    v1::TokenizeResponse plain;
    ASSERT_TRUE(
        serving.stub()
            .Tokenize(&context,
                      FromText<v1::TokenizeRequest>("text: 'hi there' add_special_tokens: false"),
                      &plain)
            .ok());
    EXPECT_EQ(plain.ids_size() + 1, tokens.ids_size());
  }
  v1::DetokenizeRequest request;
  *request.mutable_ids() = tokens.ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext context;
  ASSERT_TRUE(serving.stub().Detokenize(&context, request, &text).ok());
  EXPECT_EQ(text.text(), "hi there");
}

TEST(InferenceServiceTest, DetokenizeRefusesUnknownIds) {
  Serving serving;
  grpc::ClientContext context;
  v1::DetokenizeResponse text;
  const auto status = serving.stub().Detokenize(
      &context, FromText<v1::DetokenizeRequest>("ids: 3 ids: 400"), &text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("ids[1]"));
}

TEST(InferenceServiceTest, TellsOfModelAndLoad) {
  Serving serving;
  {
    grpc::ClientContext context;
    v1::GetModelInfoResponse info;
    ASSERT_TRUE(serving.stub().GetModelInfo(&context, {}, &info).ok());
    EXPECT_EQ(info.model_name(), "fake");
    EXPECT_EQ(info.vocab_size(), 400);
    EXPECT_EQ(info.max_context_tokens(), 4096);
    EXPECT_EQ(info.experts_per_token(), 3);
  }
  ASSERT_TRUE(Generate(serving.stub(), kGreedy).status.ok());
  grpc::ClientContext context;
  v1::GetLoadResponse load;
  ASSERT_TRUE(serving.stub().GetLoad(&context, {}, &load).ok());
  EXPECT_EQ(load.kv_blocks_total(), 4096);
  EXPECT_GT(load.tokens_per_second(), 0);
  EXPECT_GT(load.experts_per_token(), 0);
  EXPECT_EQ(load.waiting_requests(), 0);
}

}  // namespace
}  // namespace adamoe
