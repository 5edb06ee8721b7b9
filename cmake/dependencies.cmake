# Every library the project uses, as an imported target.
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
if(ADAMOE_SANITIZE MATCHES thread)
  include("${CMAKE_CURRENT_LIST_DIR}/tsan_absl_mutex.cmake")
endif()
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
# A build for a GPU alone reads no text.
if(ADAMOE_BUILD_SERVER OR ADAMOE_BUILD_TRAIN OR ADAMOE_BUILD_TESTS OR ADAMOE_BUILD_FUZZERS)
  set(ADAMOE_BUILD_TOKENIZER ON)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(oniguruma REQUIRED IMPORTED_TARGET oniguruma)
  pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
else()
  set(ADAMOE_BUILD_TOKENIZER OFF)
endif()

if(ADAMOE_BUILD_SERVER)
  find_package(Protobuf REQUIRED)
  find_package(gRPC REQUIRED CONFIG)
  find_package(prometheus-cpp REQUIRED CONFIG)
  find_package(OpenSSL REQUIRED)
  set(GOOGLEAPIS_PROTOS "${ADAMOE_DEPS_DIR}/protos")
  if(NOT EXISTS "${GOOGLEAPIS_PROTOS}/google/rpc/error_details.proto")
    message(FATAL_ERROR "google/rpc/error_details.proto is not in ${GOOGLEAPIS_PROTOS}: run deploy/install_deps.sh")
  endif()
  include("${CMAKE_CURRENT_LIST_DIR}/xgrammar.cmake")
endif()

# LibTorch from the PyPI wheel, used as two libraries. Its include folder holds protobuf headers of its own, so it
# comes after every other one (-idirafter).
if(ADAMOE_BUILD_TRAIN)
  set(TORCH_ROOT "${ADAMOE_DEPS_DIR}/libtorch/torch" CACHE PATH "The torch folder of a site-packages")
  if(NOT EXISTS "${TORCH_ROOT}/lib/libtorch_cpu.so")
    message(FATAL_ERROR "libtorch_cpu.so is not in ${TORCH_ROOT}/lib: run deploy/install_deps.sh, "
                        "or configure with -DADAMOE_BUILD_TRAIN=OFF")
  endif()
  add_library(torch_cpu INTERFACE)
  target_compile_options(torch_cpu INTERFACE
    "SHELL:-idirafter ${TORCH_ROOT}/include" "SHELL:-idirafter ${TORCH_ROOT}/include/torch/csrc/api/include")
  target_link_libraries(torch_cpu INTERFACE "${TORCH_ROOT}/lib/libtorch_cpu.so" "${TORCH_ROOT}/lib/libc10.so")
  target_link_options(torch_cpu INTERFACE "-Wl,-rpath,${TORCH_ROOT}/lib"
    "-Wl,-rpath-link,${TORCH_ROOT}/../nvidia/cu13/lib" "-Wl,-rpath-link,${TORCH_ROOT}/../nvidia/cuda_cupti/lib")
endif()

if(ADAMOE_BUILD_TESTS OR ADAMOE_BUILD_GPU_TESTS)
  find_package(GTest REQUIRED)
endif()
if(ADAMOE_BUILD_TESTS)
  find_package(benchmark REQUIRED)
endif()
