// A corpus of a few sentences and its tokenizer, for tests that train.
#ifndef ADAMOE_TESTS_UNIT_TRAIN_TINY_CORPUS_H_
#define ADAMOE_TESTS_UNIT_TRAIN_TINY_CORPUS_H_

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/train/tiny_model.h"
#include "train/bpe_trainer.h"
#include "train/model_folder.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {

inline constexpr int32_t kTinyVocabSize = 300;

inline std::string TinyCorpus() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "The fox ran home. The hen ran too.\n";
    if (i % 10 == 9) text += "<|endoftext|>\n";
  }
  return text;
}

// Writes a tokenizer of at most kTinyVocabSize tokens to `dir`.
inline void WriteTinyTokenizer(const std::string& dir) {
  WordCounts counts;
  const std::string text = TinyCorpus();
  for (absl::string_view document : SplitDocuments(text)) CountWords(document, &counts);
  const auto vocabulary = TrainBpe(counts, kTinyVocabSize, 1);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  ASSERT_TRUE(WriteFileAtomically(dir + "/tokenizer.json", TokenizerJson(*vocabulary)).ok());
  ASSERT_TRUE(WriteFileAtomically(dir + "/tokenizer_config.json", TokenizerConfigJson(64)).ok());
}

// Writes a random model of `config` with kTinyVocabSize tokens, and its tokenizer, to `dir`.
inline void WriteTinyModel(ModelConfig config, const std::string& dir, at::ScalarType dtype) {
  config.vocab_size = kTinyVocabSize;
  ASSERT_TRUE(MakeFolder(dir).ok());
  WriteTinyTokenizer(dir);
  ASSERT_TRUE(WriteModelFolder(dir, config, LivelyParameters(config, 7), dtype).ok());
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_TRAIN_TINY_CORPUS_H_
