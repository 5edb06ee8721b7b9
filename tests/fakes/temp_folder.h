// A folder for one test's files, removed with all it holds.
#ifndef ADAMOE_TESTS_FAKES_TEMP_FOLDER_H_
#define ADAMOE_TESTS_FAKES_TEMP_FOLDER_H_

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "gtest/gtest.h"

namespace adamoe {

class TempFolder {
 public:
  TempFolder() : path_(testing::TempDir() + "/adamoe_XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << path_;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // The path of `name` in it.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_TEMP_FOLDER_H_
