#include "server/http/completion_exchange.h"

#include <adamoe/v1/inference.pb.h>

#include <atomic>
#include <random>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/http/api_error.h"
#include "server/http/openai_response.h"
#include "server/http/sse.h"
#include "server/serving/generation.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

// About as much as one Take hands over.
constexpr size_t kMaxTakenBytes = 256 << 10;
constexpr int kMaxTakenMessages = 16;

const char* NameOf(OpenAiApi api) {
  return api == OpenAiApi::kChat ? "chat.completions" : "completions";
}

std::string MakeId(OpenAiApi api) {
  static const uint32_t process = std::random_device()();
  static std::atomic<uint64_t> next{1};
  return absl::StrCat(api == OpenAiApi::kChat ? "chatcmpl-" : "cmpl-",
                      absl::Hex(process, absl::kZeroPad8), absl::Hex(next++, absl::kZeroPad8));
}

class CompletionExchange final : public Exchange {
 public:
  CompletionExchange(const CallContext& context, OpenAiApi api, CallOrigin origin, std::string body,
                     std::function<void()> wake)
      : context_(context),
        api_(api),
        origin_(std::move(origin)),
        wake_(std::move(wake)),
        body_(std::move(body)) {
    form_.api = api;
    form_.id = MakeId(api);
    form_.created = absl::ToUnixSeconds(absl::Now());
    form_.model = context.model->name;
  }

  void Start() override ABSL_LOCKS_EXCLUDED(mu_) {
    auto request = ReadOpenAiRequest(api_, body_, context_.model->name);
    body_ = {};
    if (request.ok()) {
      StartAll(*std::move(request));
    } else {
      StartRefused(request.status());
    }
    {
      absl::MutexLock lock(&mu_);
      started_ = true;
    }
    wake_();
  }

  void Abandon() override ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    gone_ = true;
    StopAll();
  }

  Taken Take() override ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    Taken taken;
    if (ended_) return taken;
    std::string events;
    const bool more = TakeMessages(&events);
    if (more) wake_();  // whoever takes is to do something else in between
    const bool all_ended = started_ && !more && num_ended_ == choices_.size();
    if (!error_.ok() && !head_taken_) events.clear();
    if (all_ended) {
      ended_ = taken.end = true;
      if (gone_) return taken;
      if (!request_.stream || (!error_.ok() && !head_taken_)) {
        taken.reply = WholeReply();
        return taken;
      }
      AddLastEvents(events);
    }
    if (gone_ || events.empty()) return taken;
    if (!std::exchange(head_taken_, true)) {
      taken.reply = StreamHead();
      taken.reply->body = std::move(events);
    } else {
      taken.piece = std::move(events);
    }
    return taken;
  }

 private:
  struct Choice {
    std::shared_ptr<Generation> generation;
    std::unique_ptr<OpenAiChoice> output;
    uint64_t prompt_tokens = 0;  // for usage of chunks
    bool started = false;        // it has a say of its own in how it ends
    bool ended = false;
    bool spoke = false;
  };

  std::shared_ptr<Generation> MakeGeneration() {
    return Generation::Make(context_, NameOf(api_), absl::InfiniteFuture(), origin_, wake_);
  }

  // A request that cannot be read: counted, once, as one that is refused.
  void StartRefused(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    std::shared_ptr<Generation> generation = MakeGeneration();
    {
      absl::MutexLock lock(&mu_);
      choices_.resize(1);
      choices_.front().generation = generation;
      choices_.front().started = true;
    }
    generation->Start([&](v1::GenerateRequest* proto) {
      proto->set_request_id(form_.id);
      return status;
    });
  }

  void StartAll(OpenAiRequest request) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      request_ = std::move(request);
      form_.chunks = request_.stream;
      form_.logprobs = request_.logprobs;
      form_.return_experts = request_.return_experts;
      form_.experts_per_layer = request_.experts_per_layer;
      form_.drops_output = request_.drops_output;
      form_.null_usage = request_.include_usage;
      const auto& stop_ids = request_.common.sampling().stop_token_ids();
      form_.stop_token_ids.assign(stop_ids.begin(), stop_ids.end());
      choices_.resize(request_.num_choices());
    }
    // Neither changes from here on.
    for (int i = 0; i < request_.num_choices(); ++i) StartOne(i);
  }

  void StartOne(int index) ABSL_LOCKS_EXCLUDED(mu_) {
    Choice& choice = choices_[index];
    auto output = std::make_unique<OpenAiChoice>(&form_, index, context_.tokenizer, Echoed(index));
    const std::shared_ptr<Generation> generation = MakeGeneration();
    {
      absl::MutexLock lock(&mu_);
      if (gone_ || !error_.ok()) {
        choice.ended = true;
        ++num_ended_;
        return;
      }
      choice.output = std::move(output);
      choice.generation = generation;
    }
    generation->Start([&](v1::GenerateRequest* proto) {
      FillGenerateRequest(request_, index, proto);
      const int count = request_.num_choices();
      proto->set_request_id(count == 1 ? form_.id : absl::StrCat(form_.id, "-", index));
      return absl::OkStatus();
    });
    absl::MutexLock lock(&mu_);
    choice.started = true;
    if ((gone_ || !error_.ok()) && !choice.ended) generation->Abandon();
  }

  std::optional<std::string> Echoed(int index) const {
    if (!request_.echo) return std::nullopt;
    const OpenAiRequest::Prompt& prompt = request_.prompts[index / request_.n];
    if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
    std::vector<int32_t> ids;
    for (const uint32_t id : std::get<OpenAiRequest::Ids>(prompt)) {
      if (id < static_cast<uint32_t>(context_.tokenizer->vocab_size())) ids.push_back(id);
    }
    return context_.tokenizer->Decode(ids).value_or("");
  }

  // What is under way ends. One that is only being started is told when it is.
  void StopAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (Choice& choice : choices_) {
      if (choice.started && !choice.ended) choice.generation->Abandon();
    }
  }

  // Takes what the generations have; true when there is more than is good at once.
  bool TakeMessages(std::string* events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    int num_messages = 0;
    for (Choice& choice : choices_) {
      while (choice.generation != nullptr && !choice.ended) {
        if (events->size() >= kMaxTakenBytes || ++num_messages > kMaxTakenMessages) return true;
        v1::GenerateResponse message;
        const Generation::Taken taken = choice.generation->Take(&message);
        choice.prompt_tokens = taken.num_prompt_tokens;
        if (taken.has_message && error_.ok() && !gone_) AddMessage(message, choice, events);
        if (taken.end.has_value()) EndOne(*taken.end, choice);
        if (!taken.has_message) break;
      }
    }
    return false;
  }

  void AddMessage(const v1::GenerateResponse& message, Choice& choice, std::string* events)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    choice.output->Add(message);
    if (!request_.stream) return;
    if (api_ == OpenAiApi::kChat && !std::exchange(choice.spoke, true)) {
      AddSseEvent(OpenAiResponseJson(form_, choice.output->RoleJson(), ChunkUsage(choice)),
                  *events);
    }
    AddSseEvent(OpenAiResponseJson(form_, choice.output->TakeJson(), ChunkUsage(choice)), *events);
  }

  std::string ChunkUsage(const Choice& choice) const {
    if (!request_.continuous_usage) return "";
    OpenAiUsage usage;
    usage.prompt_tokens = choice.prompt_tokens;
    usage.completion_tokens = choice.output->num_tokens();
    return usage.Json();
  }

  void EndOne(const absl::Status& status, Choice& choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    choice.ended = true;
    ++num_ended_;
    if (status.ok() || !error_.ok()) return;
    error_ = status;
    failed_ = static_cast<int>(&choice - choices_.data());
    StopAll();
  }

  ApiError Error() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (request_.num_choices() == 0) return ToApiError(error_);
    return ToApiError(WithFieldRenamed(
        error_, [&](absl::string_view field) { return OpenAiField(request_, failed_, field); }));
  }

  OpenAiUsage TotalUsage() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    OpenAiUsage total;
    for (size_t i = 0; i < choices_.size(); ++i) {
      const auto& finish = choices_[i].output->finish();
      if (!finish.has_value()) continue;
      total.Add(finish->usage(), /*counts_prompt=*/i % request_.n == 0,
                /*counts_output=*/!request_.drops_output);
    }
    return total;
  }

  std::vector<Header> Headers() const { return {{"X-Request-Id", form_.id}}; }

  Reply StreamHead() const {
    Reply reply;
    reply.content_type = kSseContentType;
    reply.headers = Headers();
    reply.headers.push_back({"Cache-Control", "no-cache"});
    return reply;
  }

  Reply WholeReply() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Reply reply;
    if (!error_.ok()) {
      reply = Error().ToReply();
    } else {
      std::string list;
      for (Choice& choice : choices_) {
        absl::StrAppend(&list, list.empty() ? "" : ",", choice.output->TakeJson());
      }
      reply.body = OpenAiResponseJson(form_, list, TotalUsage().Json());
    }
    for (Header& header : Headers()) reply.headers.push_back(std::move(header));
    return reply;
  }

  void AddLastEvents(std::string& events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!error_.ok()) return AddSseEvent(Error().json, events);
    if (request_.include_usage) {
      AddSseEvent(OpenAiResponseJson(form_, "", TotalUsage().Json()), events);
    }
    AddSseEvent("[DONE]", events);
  }

  const CallContext context_;
  const OpenAiApi api_;
  const CallOrigin origin_;
  const std::function<void()> wake_;
  std::string body_;  // Start's

  absl::Mutex mu_;
  // These and the size of choices_ are written once, by Start, before a generation is there.
  OpenAiRequest request_;
  OpenAiForm form_;
  std::vector<Choice> choices_;

  size_t num_ended_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mu_);  // the first one
  int failed_ ABSL_GUARDED_BY(mu_) = 0;      // the choice that it came of
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool head_taken_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

std::shared_ptr<Exchange> MakeCompletionExchange(const CallContext& context, OpenAiApi api,
                                                 CallOrigin origin, std::string body,
                                                 std::function<void()> wake) {
  return std::make_shared<CompletionExchange>(context, api, std::move(origin), std::move(body),
                                              std::move(wake));
}

absl::Status CountRefusal(const CallContext& context, OpenAiApi api, CallOrigin origin,
                          const absl::Status& status) {
  const auto generation =
      Generation::Make(context, NameOf(api), absl::InfiniteFuture(), std::move(origin), [] {});
  generation->Start([&](v1::GenerateRequest*) { return status; });
  v1::GenerateResponse message;
  return generation->Take(&message).end.value_or(status);
}

}  // namespace adamoe
