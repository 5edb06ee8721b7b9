// The page at "/", and the load that it shows.
#include "server/http/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/http/http_server.h"
#include "tests/unit/http/http_client.h"
#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string SourceOfElement(const std::string& html, const std::string& tag) {
  const size_t begin = html.find(absl::StrCat("<", tag, ">")) + tag.size() + 2;
  const std::string text = html.substr(begin, html.find(absl::StrCat("</", tag, ">")) - begin);
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  return absl::StrCat(
      "'sha256-",
      absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(hash), sizeof(hash))),
      "'");
}

class PageTest : public testing::Test {
 protected:
  ~PageTest() override { serving_.gate().Open(); }

  HttpServer& Start(const Authenticator* authenticator = nullptr) {
    HttpServer::Options options;
    options.host = "127.0.0.1";
    options.last_progress = [this] { return serving_.last_progress(); };
    CallContext context = serving_.context();
    context.authenticator = authenticator;
    auto server = HttpServer::Start(options, context);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    return *server_;
  }

  Serving serving_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(PageTest, ItIsTheFile) {
  HttpClient client(Start().port());
  const HttpResponse response = client.Get("/?anything");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "text/html; charset=utf-8");
  std::ifstream file(ADAMOE_SOURCE_DIR "/server/http/page/index.html", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_GT(text.str().size(), 1000u);
  EXPECT_EQ(response.body, text.str());
  client.Send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  const HttpResponse head = client.Read(/*has_body=*/false);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), absl::StrCat(text.str().size()));
  const HttpResponse wrong = client.Post("/", "");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "GET, HEAD");
}

TEST_F(PageTest, ItMayLoadNothing) {
  HttpClient client(Start().port());
  const HttpResponse response = client.Get("/");
  const std::string policy = response.headers.at("content-security-policy");
  EXPECT_EQ(policy,
            absl::StrCat("default-src 'none'; style-src ", SourceOfElement(response.body, "style"),
                         "; script-src ", SourceOfElement(response.body, "script"),
                         "; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                         "frame-ancestors 'none'"));
  EXPECT_EQ(response.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(response.headers.at("referrer-policy"), "no-referrer");
  EXPECT_EQ(response.headers.at("cache-control"), "no-cache");
  // Text of models never becomes HTML, and no address is named at all.
  for (const char* word :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
        "http:", "https:", "localStorage", "sessionStorage", "cookie"}) {
    EXPECT_THAT(response.body, Not(HasSubstr(word)));
  }
}

TEST_F(PageTest, LoadIsWhatGrpcTells) {
  HttpClient client(Start().port());
  nlohmann::json idle = client.Get("/load").Json();
  EXPECT_EQ(idle["running_requests"], 0);
  EXPECT_EQ(idle["kv_blocks_free"], idle["kv_blocks_total"]);

  HttpClient busy(server_->port());
  busy.Send(HttpClient::PostText(
      "/v1/completions",
      R"({"prompt":"ab","ignore_eos":true,"max_tokens":3000,"stream":true,"n":2})"));
  ASSERT_TRUE(Eventually([this] { return serving_.metrics().load().num_running == 2; }));
  serving_.gate().Close();
  ASSERT_TRUE(serving_.gate().AwaitHeld());
  const nlohmann::json load = client.Get("/load").Json();
  grpc::ClientContext context;
  v1::GetLoadResponse over_grpc;
  ASSERT_TRUE(serving_.stub().GetLoad(&context, {}, &over_grpc).ok());
  EXPECT_EQ(load["running_requests"], 2);
  EXPECT_EQ(load["running_requests"], over_grpc.running_requests());
  EXPECT_EQ(load["waiting_requests"], over_grpc.waiting_requests());
  EXPECT_EQ(load["kv_blocks_total"], over_grpc.kv_blocks_total());
  EXPECT_EQ(load["kv_blocks_free"], over_grpc.kv_blocks_free());
  EXPECT_LT(load["kv_blocks_free"], load["kv_blocks_total"]);
  EXPECT_TRUE(load["tokens_per_second"].is_number());
  EXPECT_TRUE(load["experts_per_token"].is_number());
  EXPECT_EQ(load.size(), 6u);
  EXPECT_EQ(client.Post("/load", "{}").status, 405);
}

TEST_F(PageTest, MetricsAreTheScrape) {
  HttpClient client(Start().port());
  client.Post("/v1/completions", R"({"prompt":"ab","ignore_eos":true,"max_tokens":5})");
  const HttpResponse response = client.Get("/metrics");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(response.body, HasSubstr("\n# TYPE adamoe_requests_total counter\n"));
  EXPECT_THAT(response.body, HasSubstr("\nadamoe_generated_tokens_total 5\n"));
  client.Send("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read(/*has_body=*/false).status, 200);
}

TEST_F(PageTest, ThePageIsOpenAndLoadIsNot) {
  const std::string path = absl::StrCat(testing::TempDir(), "/page_test_tokens");
  std::ofstream(path) << "a-token\n";
  const auto authenticator = Authenticator::Open(path, 0);
  std::remove(path.c_str());
  ASSERT_TRUE(authenticator.ok()) << authenticator.status();
  HttpServer& server = Start(authenticator->get());
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/").status, 200);
  const HttpResponse refused = client.Get("/load");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.Json()["error"]["code"], "invalid_api_key");
  const std::string head = "GET /load HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ";
  EXPECT_EQ(client.Call(head + "b-token\r\n\r\n").status, 401);
  EXPECT_EQ(client.Call(head + "a-token\r\n\r\n").status, 200);
}

}  // namespace
}  // namespace adamoe
