// What the log may hold of a request's input: the start of it. Pure functions.
#ifndef ADAMOE_SERVER_SERVING_LOGGED_PROMPT_H_
#define ADAMOE_SERVER_SERVING_LOGGED_PROMPT_H_

#include <string>

namespace adamoe {

namespace v1 {
class GenerateRequest;
class ScoreRequest;
}  // namespace v1

// The prompt; messages as "role: content", one a line; token ids as "[1, 2, 3]". Little more than
// kMaxLoggedPromptBytes, whatever the request holds.
std::string LoggedPrompt(const v1::GenerateRequest& request);

// The same of the context.
std::string LoggedPrompt(const v1::ScoreRequest& request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_LOGGED_PROMPT_H_
