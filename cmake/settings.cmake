# Language, build types, warnings and the compiler cache.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g1 -fno-omit-frame-pointer")

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
endif()

if(ADAMOE_SANITIZE)
  add_compile_options(-fsanitize=${ADAMOE_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ADAMOE_SANITIZE})
endif()

# Every target of ours is built with these; generated code is not.
option(ADAMOE_WARNINGS_AS_ERRORS "Off for compilers that the project is not developed with" ON)
set(ADAMOE_WARNINGS -Wall -Wextra)
if(ADAMOE_WARNINGS_AS_ERRORS)
  list(APPEND ADAMOE_WARNINGS -Werror)
endif()
if(ADAMOE_SANITIZE)
  # GCC 12 warns of reads in libraries' instrumented code that are not there: no errors in these builds.
  list(APPEND ADAMOE_WARNINGS -Wno-error)
endif()
