#include "server/structured/grammar_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/structured/grammar_text.h"

namespace adamoe {

absl::StatusOr<std::unique_ptr<GrammarService>> GrammarService::Start(
    const Options& options, std::unique_ptr<ForkServer> fork_server, const Vocabulary& vocabulary,
    GrammarObserver* observer) {
  RETURN_IF_ERROR(fork_server->SetVocabulary(vocabulary));
  return std::unique_ptr<GrammarService>(new GrammarService(
      options, std::move(fork_server), static_cast<int32_t>(vocabulary.size()), observer));
}

GrammarService::GrammarService(const Options& options, std::unique_ptr<ForkServer> fork_server,
                               int32_t vocab_size, GrammarObserver* observer)
    : options_(options),
      fork_server_(std::move(fork_server)),
      vocab_size_(vocab_size),
      observer_(observer),
      cache_(options.cache_bytes, options.max_grammars) {
  for (int i = 0; i < options.num_compiling; ++i) threads_.emplace_back([this] { Run(); });
}

GrammarService::~GrammarService() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  stop_.Notify();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status GrammarService::Prepare(const StructuredOutput& structured,
                                     std::vector<int32_t> stop_token_ids, Done done) {
  GrammarText text = ToGrammarText(structured);
  const std::string key = text.Key();
  std::shared_ptr<Grammar> grammar;
  {
    absl::MutexLock lock(&mu_);
    grammar = cache_.Find(key);
    if (grammar == nullptr) {
      if (num_waiting_ >= options_.max_waiting) {
        return absl::ResourceExhaustedError(
            absl::StrCat(num_waiting_, " requests wait for their grammars to be worked out"));
      }
      ++num_waiting_;
      Job& job = jobs_[key];
      if (job.waiters.empty()) {
        job.text = std::move(text);
        to_compile_.push_back(key);
      }
      job.waiters.push_back({std::move(stop_token_ids), std::move(done)});
    }
  }
  observer_->OnGrammarLookup(grammar != nullptr);
  if (grammar != nullptr) done(grammar->NewMatcher(stop_token_ids));
  return absl::OkStatus();
}

void GrammarService::Run() {
  while (true) {
    std::string key;
    {
      absl::MutexLock lock(&mu_);
      const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stopping_ || !to_compile_.empty();
      };
      mu_.Await(absl::Condition(&has_work));
      if (to_compile_.empty()) return;
      key = std::move(to_compile_.front());
      to_compile_.pop_front();
    }
    Compile(key);
  }
}

void GrammarService::Compile(const std::string& key) {
  GrammarText text;
  bool has_room;
  {
    absl::MutexLock lock(&mu_);
    text = jobs_.at(key).text;
    has_room = cache_.MakeRoom();
  }
  absl::StatusOr<std::shared_ptr<Grammar>> grammar = absl::CancelledError("shutting down");
  if (!has_room) {
    grammar = absl::ResourceExhaustedError(
        absl::StrCat(options_.max_grammars, " grammars are in use, try again later"));
  } else if (!stop_.HasBeenNotified()) {
    const absl::Time begin = absl::Now();
    grammar = Grammar::Compile(text, options_.limits, vocab_size_, stop_, fork_server_.get());
    observer_->OnGrammarCompiled(absl::Now() - begin);
  }
  for (Waiter& waiter : Finish(key, grammar)) {
    if (grammar.ok()) {
      waiter.done((*grammar)->NewMatcher(waiter.stop_token_ids));
    } else {
      waiter.done(grammar.status());
    }
  }
}

std::vector<GrammarService::Waiter> GrammarService::Finish(
    const std::string& key, const absl::StatusOr<std::shared_ptr<Grammar>>& grammar) {
  absl::MutexLock lock(&mu_);
  std::vector<Waiter> waiters = std::move(jobs_.at(key).waiters);
  jobs_.erase(key);
  num_waiting_ -= waiters.size();
  if (grammar.ok()) cache_.Insert(key, *grammar);
  return waiters;
}

}  // namespace adamoe
