#include "train/text_files.h"

#include <zlib.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace adamoe {
namespace {

constexpr absl::string_view kSeparator = "<|endoftext|>";

struct CloseGzip {
  void operator()(gzFile file) const { gzclose(file); }
};

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  // gzread passes a file that is not gzip through as it is.
  std::unique_ptr<gzFile_s, CloseGzip> file(gzopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  gzbuffer(file.get(), 1 << 18);
  std::string text;
  std::string chunk(1 << 20, '\0');
  while (true) {
    const int num_read = gzread(file.get(), chunk.data(), static_cast<unsigned>(chunk.size()));
    if (num_read < 0) break;
    if (num_read == 0) {
      int error = Z_OK;
      gzerror(file.get(), &error);
      if (error != Z_OK) break;
      return text;
    }
    text.append(chunk, 0, num_read);
  }
  int error = Z_OK;
  return absl::DataLossError(absl::StrCat(path, ": ", gzerror(file.get(), &error)));
}

std::vector<absl::string_view> SplitDocuments(absl::string_view text) {
  std::vector<absl::string_view> documents;
  const auto add = [&documents](absl::string_view document) {
    if (!document.empty()) documents.push_back(document);
  };
  size_t document_begin = 0;
  for (size_t line_begin = 0; line_begin < text.size();) {
    const size_t line_end = std::min(text.find('\n', line_begin), text.size());
    if (text.substr(line_begin, line_end - line_begin) == kSeparator) {
      absl::string_view document = text.substr(document_begin, line_begin - document_begin);
      absl::ConsumeSuffix(&document, "\n");
      add(document);
      document_begin = line_end + 1;
    }
    line_begin = line_end + 1;
  }
  if (document_begin < text.size()) add(text.substr(document_begin));
  return documents;
}

}  // namespace adamoe
