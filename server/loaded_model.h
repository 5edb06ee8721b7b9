// A model folder, ready to serve: tokenizer, weights on their device, and what the service says
// about them.
#ifndef ADAMOE_SERVER_LOADED_MODEL_H_
#define ADAMOE_SERVER_LOADED_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/base/thread_pool.h"
#include "server/flags.h"
#include "server/model/model.h"
#include "server/serving/served_model.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

struct LoadedModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ThreadPool> pool;  // outlives the model
  std::unique_ptr<Model> model;
  ServedModel info;
};

// Loads what `flags` name, and logs it. Errors name the file or flag at fault.
absl::StatusOr<LoadedModel> LoadModel(const ServerFlags& flags);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOADED_MODEL_H_
