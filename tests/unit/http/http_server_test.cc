#include "server/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/http/http_client.h"
#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr char kCompletions[] = "/v1/completions";
constexpr char kChat[] = "/v1/chat/completions";

std::string Completion(const std::string& fields) {
  return absl::StrCat(R"({"prompt":"ab","temperature":0,"ignore_eos":true,"max_tokens":4)",
                      fields.empty() ? "" : ",", fields, "}");
}

ServingOptions ManyRequests() {
  ServingOptions options;
  options.max_queued = 2000;
  options.executor.max_running_requests = 512;
  return options;
}

ServingOptions OneRequest() {
  ServingOptions options;
  options.max_queued = 1;
  options.executor.max_running_requests = 1;
  return options;
}

ServingOptions AFailedStep() {
  ServingOptions options;
  options.faults.fail_step = 1000;
  return options;
}

// A server of both kinds, on a model without weights.
class HttpServerTest : public testing::Test {
 protected:
  explicit HttpServerTest(const ServingOptions& serving = ManyRequests()) : serving_(serving) {
    options_.host = "127.0.0.1";
    options_.last_progress = [this] {
      return stalled_ ? absl::UnixEpoch() : serving_.last_progress();
    };
  }
  ~HttpServerTest() override { serving_.gate().Open(); }

  HttpServer& server() {
    if (server_ != nullptr) return *server_;
    auto server = HttpServer::Start(options_, serving_.context());
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    return *server_;
  }
  int port() { return server().port(); }

  // Nothing runs, and the blocks of what ran are free.
  bool BecomesIdle() {
    return Eventually([this] {
      const LoadReport load = serving_.metrics().load();
      return load.num_running == 0 && serving_.queue().num_waiting() == 0 &&
             load.num_free_blocks == load.num_blocks;
    });
  }

  HttpServer::Options options_;
  std::atomic<bool> stalled_{false};
  Serving serving_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ACompletionIsWhatGrpcGenerates) {
  const Generated over_grpc =
      Generate(serving_.stub(),
               R"(prompt: "ab" sampling { max_tokens: 4 temperature: 0 ignore_eos: true })");
  HttpClient client(port());
  const HttpResponse response = client.Post(kCompletions, Completion(""));
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  const json answer = response.Json();
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["model"], "fake");
  EXPECT_EQ(response.headers.at("x-request-id"), answer["id"]);
  EXPECT_EQ(answer["choices"][0]["text"], over_grpc.text);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  const auto& usage = over_grpc.all.finish().usage();
  EXPECT_EQ(answer["usage"]["prompt_tokens"], usage.prompt_tokens());
  EXPECT_EQ(answer["usage"]["completion_tokens"], 4);
  EXPECT_EQ(answer["usage"]["experts"]["executed_flops"], usage.executed_expert_flops());
  EXPECT_EQ(answer["usage"]["experts"]["null_slots"], usage.null_slots());
  EXPECT_EQ(serving_.Count("ok"), 2);
}

TEST_F(HttpServerTest, AStreamIsTheSameInPieces) {
  HttpClient client(port());
  const json whole =
      client.Post(kCompletions, Completion(R"("max_tokens":20)")).Json();  // the key twice
  EXPECT_THAT(whole["error"]["message"].get<std::string>(),
              HasSubstr("'max_tokens' is there twice"));
  const std::string text =
      client.Post(kCompletions, Completion("")).Json()["choices"][0]["text"].get<std::string>();
  const HttpResponse response = client.Post(
      kCompletions,
      Completion(R"("stream":true,"stream_options":{"include_usage":true},"return_experts":true)"));
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_TRUE(response.is_whole);
  std::vector<std::string> events = response.Events();
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events.back(), "[DONE]");
  events.pop_back();
  const json last = json::parse(events.back());
  EXPECT_TRUE(last["choices"].is_array() && last["choices"].empty());
  EXPECT_EQ(last["usage"]["completion_tokens"], 4);
  events.pop_back();
  std::string streamed;
  size_t num_experts = 0;
  for (const std::string& event : events) {
    const json chunk = json::parse(event);
    EXPECT_TRUE(chunk["usage"].is_null());
    streamed += chunk["choices"][0]["text"].get<std::string>();
    num_experts += chunk["choices"][0]["experts"].size();
  }
  EXPECT_EQ(streamed, text);
  EXPECT_EQ(num_experts, 4u);
  EXPECT_EQ(json::parse(events.back())["choices"][0]["finish_reason"], "length");
}

TEST_F(HttpServerTest, UsageOnlyWhereItIsAskedFor) {
  HttpClient client(port());
  for (const std::string& event :
       client.Post(kCompletions, Completion(R"("stream":true)")).Events()) {
    if (event == "[DONE]") continue;
    EXPECT_FALSE(json::parse(event).contains("usage")) << event;
  }
  const auto events = client
                          .Post(kCompletions, Completion(R"("stream":true,"stream_options":
      {"continuous_usage_stats":true})"))
                          .Events();
  ASSERT_GE(events.size(), 2u);
  const json usage = json::parse(events[events.size() - 2])["usage"];
  EXPECT_EQ(usage["completion_tokens"], 4);
  EXPECT_EQ(usage["prompt_tokens"], serving_.tokenizer().Encode("ab", {})->size());
}

TEST_F(HttpServerTest, WithoutMaxTokensAChatFillsTheContext) {
  HttpClient client(port());
  const json answer =
      client.Post(kChat, R"({"messages":[{"role":"user","content":"a"}],"ignore_eos":true})")
          .Json();
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["total_tokens"], serving_.context().model->max_context_tokens);
}

TEST_F(HttpServerTest, ChatStartsWithTheRole) {
  HttpClient client(port());
  const std::string fields = R"("messages":[{"role":"user","content":"Hi"}],"temperature":0,
      "max_completion_tokens":3,"ignore_eos":true)";
  const HttpResponse response = client.Post(kChat, absl::StrCat("{", fields, "}"));
  ASSERT_EQ(response.status, 200) << response.body;
  const json message = response.Json()["choices"][0]["message"];
  EXPECT_EQ(message["role"], "assistant");
  const auto events =
      client.Post(kChat, absl::StrCat("{", fields, R"(,"stream":true,"n":2})")).Events();
  std::string texts[2];
  bool spoke[2] = {};
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    const int index = choice["index"];
    EXPECT_EQ(choice["delta"].value("role", ""), spoke[index] ? "" : "assistant") << event;
    spoke[index] = true;
    texts[index] += choice["delta"]["content"].get<std::string>();
  }
  EXPECT_EQ(texts[0], message["content"]);
  EXPECT_EQ(texts[1], message["content"]);
}

TEST_F(HttpServerTest, EchoWithLogprobsAgreesWithGrpc) {
  const Generated over_grpc = Generate(
      serving_.stub(), R"(prompt_tokens { ids: [5, 6, 7, 8] } logprobs: 1 prompt_logprobs: true
               sampling { max_tokens: 1 temperature: 0 })");
  std::vector<float> logprobs;
  for (const auto& token : over_grpc.all.prompt_tokens_info()) logprobs.push_back(token.logprob());
  for (const auto& token : over_grpc.all.tokens()) logprobs.push_back(token.logprob());
  HttpClient client(port());
  const json answer =
      client
          .Post(
              kCompletions,
              R"({"prompt":[[5,6,7,8],[5,6]],"temperature":0,"max_tokens":1,"logprobs":1,"echo":true})")
          .Json();
  ASSERT_EQ(answer["choices"].size(), 2u) << answer.dump();
  const json& found = answer["choices"][0]["logprobs"];
  ASSERT_EQ(found["token_logprobs"].size(), 5u);
  ASSERT_EQ(found["tokens"].size(), 5u);
  ASSERT_EQ(found["text_offset"].size(), 5u);
  EXPECT_TRUE(found["token_logprobs"][0].is_null());
  for (size_t i = 1; i < 5; ++i) {
    EXPECT_EQ(found["token_logprobs"][i].get<double>(), static_cast<double>(logprobs[i]));
    // The chosen token is the greedy one exactly where its text of a number is the largest one's.
    double max = -1e9;
    for (const json& top : found["top_logprobs"][i]) max = std::max(max, top.get<double>());
    EXPECT_GE(max, logprobs[i]);
  }
  EXPECT_EQ(answer["choices"][1]["logprobs"]["tokens"].size(), 3u);
  const json alone =
      client.Post(kCompletions, R"({"prompt":[5,6,7],"max_tokens":0,"logprobs":1,"echo":true})")
          .Json();
  EXPECT_EQ(alone["choices"][0]["logprobs"]["tokens"].size(), 3u);
  EXPECT_EQ(alone["usage"]["completion_tokens"], 0);
}

TEST_F(HttpServerTest, ErrorsAreOpenAis) {
  HttpClient client(port());
  const struct {
    const char* path;
    std::string body;
    int status;
    json param;
  } cases[] = {
      {kCompletions, Completion(R"("top_p":2)"), 400, "top_p"},
      {kCompletions, Completion(R"("stop":["a",""])"), 400, "stop[1]"},
      {kCompletions, Completion(R"("stream":true,"min_tokens":9)"), 400, "min_tokens"},
      {kCompletions, R"({"prompt":["a",[400]],"max_tokens":1})", 400, "prompt[1][0]"},
      {kCompletions, R"({"prompt":"a","max_tokens":0})", 400, "max_tokens"},
      {kCompletions, R"({"prompt":"a","max_tokens":5000})", 400, "max_tokens"},
      {kCompletions, R"({"prompt":"a","model":"other"})", 404, "model"},
      {kCompletions, "{", 400, nullptr},
      {kCompletions, "", 400, nullptr},
      {kCompletions, Completion(R"("guided_regex":"a")"), 501, nullptr},  // none is served here
      {kChat, R"({"messages":[{"role":"robot","content":"x"}]})", 400, "messages"},
      {kChat, R"({"messages":[]})", 400, "messages"},
      {"/tokenize", R"({"prompt":5})", 400, "prompt"},
      {"/detokenize", R"({"tokens":[1,-2]})", 400, "tokens[1]"},
  };
  int num_completions = 0;
  for (const auto& [path, body, status, param] : cases) {
    const HttpResponse response = client.Post(path, body);  // on one connection
    EXPECT_EQ(response.status, status) << body << response.body;
    const json error = response.Json()["error"];
    EXPECT_EQ(error["param"], param) << error.dump();
    EXPECT_TRUE(error["message"].is_string() && error["type"].is_string());
    num_completions += path[1] == 'v';
  }
  // One of them had two choices.
  EXPECT_EQ(serving_.CountAll(), num_completions + 1);
  EXPECT_EQ(serving_.Count("invalid"), num_completions - 1);
}

TEST_F(HttpServerTest, PathsAndMethods) {
  HttpClient client(port());
  EXPECT_EQ(client.Get("/nothing").status, 404);
  const HttpResponse wrong = client.Get(kCompletions);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST");
  EXPECT_EQ(client.Call("DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n").headers.at("allow"),
            "GET, HEAD");
  EXPECT_EQ(client.Get("/v1/models").Json()["data"][0]["id"], "fake");
  EXPECT_EQ(client.Get("/v1/models/fake?x=y").Json()["id"], "fake");
  EXPECT_EQ(client.Get("/v1/models/other").status, 404);
  EXPECT_EQ(client.Get("/tokenizer_info").Json()["eos_token"], nullptr);  // the fake has none
  EXPECT_EQ(client.Get("/tokenizer_info").Json()["bos_token"], "<s>");
  client.Send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read(/*has_body=*/false).status, 200);
  const json tokens =
      client.Post("/tokenize", R"({"prompt":"abc","add_special_tokens":false})").Json();
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(client.Post("/detokenize", json{{"tokens", tokens["tokens"]}}.dump()).Json()["prompt"],
            "abc");
  EXPECT_GT(
      client.Post("/tokenize", R"({"messages":[{"role":"user","content":"x"}]})").Json()["count"],
      1);
}

TEST_F(HttpServerTest, RequestsMayComeEarly) {
  HttpClient client(port());
  std::string all;
  for (int i = 0; i < 20; ++i) {
    all += HttpClient::PostText(kCompletions, Completion(i % 2 == 0 ? R"("stream":true)" : ""));
    all += "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  client.Send(all);
  for (int i = 0; i < 20; ++i) {
    const HttpResponse response = client.Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.headers.at("content-type").substr(0, 4), i % 2 == 0 ? "text" : "appl");
    EXPECT_EQ(client.Read().body, R"({"status":"ok"})");
  }
}

TEST_F(HttpServerTest, OldClientsReadUntilTheEnd) {
  HttpClient client(port());
  const std::string body = Completion(R"("stream":true)");
  client.Send(absl::StrCat("POST ", kCompletions, " HTTP/1.0\r\nContent-Length: ", body.size(),
                           "\r\n\r\n", body));
  const HttpResponse response = client.Read();
  EXPECT_EQ(response.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(response.Events().back(), "[DONE]");
}

TEST_F(HttpServerTest, AClientMayAskBeforeItSendsABody) {
  HttpClient client(port());
  const std::string body = Completion("");
  client.Send(absl::StrCat("POST ", kCompletions,
                           " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n",
                           "Content-Length: ", body.size(), "\r\n\r\n"));
  ASSERT_TRUE(client.Await("HTTP/1.1 100 Continue\r\n\r\n"));
  EXPECT_EQ(client.Read(/*has_body=*/false).status, 100);
  EXPECT_EQ(client.Call(body).status, 200);
}

TEST_F(HttpServerTest, BodiesAreBounded) {
  options_.max_body_bytes = 1 << 20;
  {
    HttpClient client(port());
    const HttpResponse response = client.Post(kCompletions, std::string(3 << 20, ' '));
    EXPECT_EQ(response.status, 413);
    EXPECT_EQ(response.headers.at("connection"), "close");
  }
  HttpClient client(port());
  client.Send(absl::StrCat("POST ", kCompletions,
                           " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n",
                           std::string(0x200000, ' '), "\r\n0\r\n\r\n"));
  EXPECT_EQ(client.Read().status, 413);
  HttpClient packed(port());
  EXPECT_EQ(
      packed.Call(HttpClient::PostText(kCompletions, "x", "Content-Encoding: gzip\r\n")).status,
      415);
  EXPECT_EQ(serving_.Count("invalid"), 3);
}

TEST_F(HttpServerTest, ADisconnectFreesBlocksAlsoWhileNothingIsWritten) {
  const std::string endless = R"({"prompt":"ab","ignore_eos":true,"max_tokens":4000,"stream":)";
  for (const char* stream : {"true", "false"}) {
    const int cancelled = serving_.Count("cancelled");
    HttpClient client(port());
    serving_.gate().Close();
    client.Send(HttpClient::PostText(kCompletions, absl::StrCat(endless, stream, "}")));
    ASSERT_TRUE(serving_.gate().AwaitHeld());
    client.Close();
    ASSERT_TRUE(
        Eventually([&] { return server().num_connections() == 1; }));  // it waits for the end
    serving_.gate().Open();
    EXPECT_TRUE(Eventually([&] { return serving_.Count("cancelled") == cancelled + 1; }));
    EXPECT_TRUE(BecomesIdle());
    EXPECT_TRUE(Eventually([&] { return server().num_connections() == 0; }));
  }
}

TEST_F(HttpServerTest, ADisconnectInTheMiddleOfAStream) {
  HttpClient client(port());
  client.Send(HttpClient::PostText(
      kCompletions, R"({"prompt":"ab","ignore_eos":true,"max_tokens":4000,"stream":true})"));
  ASSERT_TRUE(client.Await("data: "));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return serving_.Count("cancelled") == 1; }));
  EXPECT_TRUE(BecomesIdle());
}

TEST_F(HttpServerTest, AShutdownEndsWhatOutlastsItsTime) {
  HttpClient client(port());
  client.Send(HttpClient::PostText(
      kCompletions, R"({"prompt":"ab","ignore_eos":true,"max_tokens":4000,"stream":true})"));
  ASSERT_TRUE(client.Await("data: "));
  serving_.gate().Close();
  ASSERT_TRUE(serving_.gate().AwaitHeld());
  std::thread shutdown([&] { server().Shutdown(absl::ZeroDuration()); });
  serving_.gate().Open();
  shutdown.join();  // the connection is closed with the rest
  EXPECT_EQ(serving_.Count("cancelled"), 1);
}

TEST_F(HttpServerTest, ASlowReaderHoldsBackNobody) {
  options_.stall_timeout = absl::Seconds(2);
  // More than the kernel's buffers take: of it nothing is read.
  HttpClient slow(port(), 4096);
  slow.Send(HttpClient::PostText(
      kCompletions,
      R"({"prompt":"ab","ignore_eos":true,"max_tokens":4000,"stream":true,"logprobs":20,"n":4})"));
  ASSERT_TRUE(slow.Await("data: "));
  HttpClient client(port());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(client.Post(kCompletions, Completion("")).status, 200);
  // It is cut off in the end; what it asked for is counted.
  EXPECT_TRUE(Eventually([&] { return server().num_connections() == 1; }));
  EXPECT_EQ(serving_.CountAll(), 9);
}

TEST_F(HttpServerTest, ASlowRequestIsCutOff) {
  options_.head_timeout = absl::Milliseconds(200);
  options_.body_timeout = absl::Milliseconds(200);
  options_.idle_timeout = absl::Milliseconds(400);
  HttpClient idle(port());
  HttpClient head(port());
  head.Send("POST /v1/comp");
  EXPECT_EQ(head.Read().status, 408);
  HttpClient body(port());
  body.Send(
      absl::StrCat("POST ", kCompletions, " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"));
  const HttpResponse response = body.Read();
  EXPECT_EQ(response.status, 408);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(body.AtEnd());
  EXPECT_TRUE(idle.AtEnd());  // without a word
}

TEST_F(HttpServerTest, ConnectionsAreBounded) {
  options_.max_connections = 3;
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<HttpClient>(port()));
    EXPECT_EQ(clients.back()->Get("/v1/models").status, 200);
  }
  HttpClient refused(port());
  const HttpResponse response = refused.Get("/v1/models");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_TRUE(refused.AtEnd());
  HttpClient probe(port());
  EXPECT_EQ(probe.Get("/health").status, 200);
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return HttpClient(port()).Get("/v1/models").status == 200; }));
}

TEST_F(HttpServerTest, HundredsOfStreamsAtOnce) {
  constexpr int kNumStreams = 500;
  rlimit files;  // two for each stream: both ends are here
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  const std::string request =
      HttpClient::PostText(kCompletions, Completion(R"("stream":true,"n":1)"));
  serving_.gate().Close();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < kNumStreams; ++i) {
    clients.push_back(std::make_unique<HttpClient>(port()));
    ASSERT_TRUE(clients.back()->Send(request));
  }
  ASSERT_TRUE(Eventually([&] { return server().num_connections() == kNumStreams; }));
  // While all of them wait:
  HttpClient probe(port());
  const absl::Time start = absl::Now();
  EXPECT_EQ(probe.Get("/health").status, 200);
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  serving_.gate().Open();
  for (const auto& client : clients) {
    const HttpResponse response = client->Read();
    EXPECT_TRUE(response.is_whole);
    EXPECT_THAT(response.body, HasSubstr("[DONE]"));
  }
  EXPECT_EQ(serving_.Count("ok"), kNumStreams);
}

// Long texts keep the workers busy, not the thread that answers.
TEST_F(HttpServerTest, HealthIsAnsweredWhileTextsAreTokenized) {
  std::vector<std::thread> busy;
  std::atomic<int> num_done{0};
  const int listening = port();
  for (int i = 0; i < 4; ++i) {
    busy.emplace_back([&, listening] {
      HttpClient client(listening);
      std::string text;
      for (int j = 0; j < 300000; ++j) absl::StrAppend(&text, "word", j % 1000, " ");
      EXPECT_EQ(client.Post("/tokenize", json{{"prompt", text}}.dump()).status, 200);
      ++num_done;
    });
  }
  HttpClient probe(listening);
  absl::Duration slowest;
  while (num_done < 4) {
    const absl::Time start = absl::Now();
    EXPECT_EQ(probe.Get("/health").status, 200);
    slowest = std::max(slowest, absl::Now() - start);
  }
  for (std::thread& thread : busy) thread.join();
  EXPECT_LT(slowest, absl::Seconds(2));
}

TEST_F(HttpServerTest, HealthFollowsTheExecutorAndTheShutdown) {
  HttpClient client(port());
  EXPECT_EQ(client.Get("/health").status, 200);
  stalled_ = true;
  EXPECT_EQ(client.Get("/health").status, 503);
  stalled_ = false;
  EXPECT_EQ(client.Get("/health").status, 200);
  server().StopServing();
  EXPECT_EQ(client.Get("/health").status, 503);
  EXPECT_EQ(client.Post(kCompletions, Completion("")).status, 200);
}

TEST_F(HttpServerTest, WhatRunsIsFinishedAndNothingElseIsTaken) {
  HttpClient idle(port());
  EXPECT_EQ(idle.Get("/health").status, 200);
  HttpClient half(port());
  half.Send(absl::StrCat("POST ", kCompletions, " HTTP/1.1\r\nHost: x\r\n"));
  HttpClient running(port());
  serving_.gate().Close();
  running.Send(HttpClient::PostText(kCompletions, Completion("")));
  ASSERT_TRUE(serving_.gate().AwaitHeld());
  ASSERT_TRUE(Eventually([&] { return server().num_connections() == 3; }));
  absl::SleepFor(absl::Milliseconds(50));  // for the half request to have been read
  server().StopAccepting();
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(Eventually([&] {  // connecting fails, or ends at once
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server().port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool refused = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0;
    close(fd);
    return refused;
  }));
  half.Send("Content-Length: 0\r\n\r\n");
  const HttpResponse late = half.Read();
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.headers.at("connection"), "close");
  serving_.gate().Open();
  const HttpResponse response = running.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(running.AtEnd());
  server().Shutdown(absl::Seconds(30));
  EXPECT_EQ(server().num_connections(), 0);
  EXPECT_EQ(serving_.Count("rejected"), 1);
}

TEST_F(HttpServerTest, TwoDoNotShareAPort) {
  options_.port = port();
  const auto second = HttpServer::Start(options_, serving_.context());
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(port())));
}

class FailingModelTest : public HttpServerTest {
 protected:
  FailingModelTest() : HttpServerTest(AFailedStep()) {}
};

TEST_F(FailingModelTest, AnErrorInTheMiddleOfAStreamIsAnEvent) {
  HttpClient client(port());
  client.Send(HttpClient::PostText(
      kCompletions, R"({"prompt":"ab","ignore_eos":true,"max_tokens":3000,"stream":true})"));
  // Steps of a millisecond, until the stream has begun.
  std::atomic<bool> has_begun{false};
  std::thread pace([&] {
    while (!has_begun) {
      serving_.gate().Close();
      serving_.gate().AwaitHeld();
      absl::SleepFor(absl::Milliseconds(1));
      serving_.gate().Open();
    }
  });
  EXPECT_TRUE(client.Await("data: "));
  has_begun = true;
  pace.join();
  const HttpResponse response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.is_whole);
  const auto events = response.Events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_TRUE(json::parse(events.front()).contains("choices"));
  const json error = json::parse(events.back())["error"];  // and no [DONE]
  EXPECT_EQ(error["type"], "server_error");
  EXPECT_EQ(serving_.Count("error"), 1);
  // The connection serves on.
  EXPECT_EQ(client.Post(kCompletions, Completion("")).status, 200);
}

class FullQueueTest : public HttpServerTest {
 protected:
  FullQueueTest() : HttpServerTest(OneRequest()) {}
};

TEST_F(FullQueueTest, AFullQueueSaysWhenToComeAgain) {
  HttpClient first(port());
  serving_.gate().Close();
  first.Send(HttpClient::PostText(kCompletions, Completion("")));
  ASSERT_TRUE(serving_.gate().AwaitHeld());
  HttpClient client(port());
  client.Send(HttpClient::PostText(kCompletions, Completion(R"("n":8,"stream":true)")));
  // One choice fills the queue, the next is refused, and so is the request, when its first choice
  // has been taken back.
  EXPECT_TRUE(Eventually([&] { return serving_.Count("rejected") >= 1; }));
  serving_.gate().Open();
  const HttpResponse response = client.Read();
  EXPECT_EQ(response.status, 429);
  EXPECT_GE(std::stoi(response.headers.at("retry-after")), 1);
  EXPECT_EQ(response.Json()["error"]["type"], "rate_limit_error");
  EXPECT_EQ(first.Read().status, 200);
  EXPECT_TRUE(BecomesIdle());
}

}  // namespace
}  // namespace adamoe
