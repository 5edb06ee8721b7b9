// Training text: files of one paragraph per line, documents apart by a line "<|endoftext|>", plain
// or gzip. Functions are thread-safe.
#ifndef ADAMOE_TRAIN_TEXT_FILES_H_
#define ADAMOE_TRAIN_TEXT_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

// The content of `path`, unpacked when its name ends in ".gz". NOT_FOUND when it cannot be opened;
// DATA_LOSS when it cannot be read or unpacked to its end.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The documents of `text`, in order, without the separating lines and without empty documents. The
// views point into `text`. The line end before a separating line belongs to neither side; without
// such a line the text is one document, to the last byte.
std::vector<absl::string_view> SplitDocuments(absl::string_view text);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TEXT_FILES_H_
