// Runs a fuzz target without libFuzzer: every file of a corpus folder, then mutations of them,
// always the same ones.
//
//   some_fuzz CORPUS_FOLDER [MUTATIONS]
//
// A failure is a crash, a sanitizer's report, or an abort by the target; the input is then in the
// file that ADAMOE_FUZZ_FAILURE names, when it is set.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr int kDefaultMutations = 4000;

// Pieces that parsers treat as special.
const char* const kTokens[] = {"{",
                               "}",
                               "[",
                               "]",
                               "\"",
                               ":",
                               ",",
                               "null",
                               "true",
                               "-1",
                               "0",
                               "1e999",
                               "NaN",
                               "\\u",
                               "\\ud800",
                               "4294967296",
                               "1.5",
                               "\xff",
                               "\xf0\x9f",
                               "[[[[",
                               "{\"a\":",
                               "18446744073709551615",
                               "9223372036854775808"};

size_t Below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

void Insert(Bytes& bytes, size_t at, const Bytes& piece) {
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
}

// A piece of `from`, at most 64 bytes.
Bytes Piece(const Bytes& from, Random& random) {
  const size_t begin = Below(random, from.size());
  const size_t length = std::min(from.size() - begin, 1 + Below(random, 64));
  const auto first = from.begin() + static_cast<std::ptrdiff_t>(begin);
  return Bytes(first, first + static_cast<std::ptrdiff_t>(length));
}

void MutateOnce(Bytes& bytes, const std::vector<Bytes>& corpus, Random& random) {
  const size_t at = Below(random, bytes.size());
  switch (random() % 7) {
    case 0:
      if (!bytes.empty()) bytes[at] ^= static_cast<uint8_t>(1u << random() % 8);
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<uint8_t>(random());
      break;
    case 2:
      bytes.resize(at);
      break;
    case 3: {
      const size_t end = std::min(bytes.size(), at + 1 + Below(random, 16));
      bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                  bytes.begin() + static_cast<std::ptrdiff_t>(end));
      break;
    }
    case 4: {
      const std::string token = kTokens[Below(random, std::size(kTokens))];
      Insert(bytes, at, Bytes(token.begin(), token.end()));
      break;
    }
    case 5:
      Insert(bytes, at, Piece(bytes, random));
      break;
    default:
      Insert(bytes, at, Piece(corpus[Below(random, corpus.size())], random));
  }
}

std::vector<Bytes> ReadCorpus(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> corpus;
  for (const std::filesystem::path& path : paths) {
    std::ifstream in(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void Run(const Bytes& input) {
  if (const char* path = std::getenv("ADAMOE_FUZZ_FAILURE"); path != nullptr) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()),
               static_cast<std::streamsize>(input.size()));
  }
  // A copy without slack, so that an address sanitizer sees a read past the end.
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [MUTATIONS]\n", argv[0]);
    return 2;
  }
  const std::vector<Bytes> corpus = ReadCorpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no files\n", argv[1]);
    return 2;
  }
  const int mutations = argc > 2 ? std::atoi(argv[2]) : kDefaultMutations;
  Run({});
  for (const Bytes& seed : corpus) Run(seed);
  Random random(20240613);
  for (int i = 0; i < mutations; ++i) {
    Bytes input = corpus[Below(random, corpus.size())];
    for (size_t rounds = 1 + Below(random, 4); rounds > 0; --rounds) {
      MutateOnce(input, corpus, random);
    }
    Run(input);
  }
  std::printf("%zu seeds, %d mutations\n", corpus.size(), mutations);
  return 0;
}
