// The subcommands of adamoe_train. Each reads its flags and says on standard error what it does.
#ifndef ADAMOE_TRAIN_COMMANDS_COMMANDS_H_
#define ADAMOE_TRAIN_COMMANDS_COMMANDS_H_

#include "absl/status/status.h"

namespace adamoe {

absl::Status RunTokenizer();
absl::Status RunPretrain();
absl::Status RunMoLora();
absl::Status RunConvert();
absl::Status RunFinetune();
absl::Status RunEvaluate();

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_COMMANDS_COMMANDS_H_
