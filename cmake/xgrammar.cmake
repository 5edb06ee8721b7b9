# XGrammar (Apache-2.0) as a static library, from the sources that deploy/install_deps.sh has unpacked: without its Python
# bindings, and with its log going through ours (server/structured/xgrammar_log.cc).
set(XGRAMMAR_ROOT "${ADAMOE_DEPS_DIR}/xgrammar")
if(NOT EXISTS "${XGRAMMAR_ROOT}/include/xgrammar/xgrammar.h")
  message(FATAL_ERROR "xgrammar is not in ${XGRAMMAR_ROOT}: run deploy/install_deps.sh")
endif()
file(GLOB xgrammar_sources CONFIGURE_DEPENDS "${XGRAMMAR_ROOT}/cpp/*.cc" "${XGRAMMAR_ROOT}/cpp/support/*.cc"
     "${XGRAMMAR_ROOT}/cpp/converter_ext/*.cc")
add_library(xgrammar STATIC EXCLUDE_FROM_ALL ${xgrammar_sources})
target_include_directories(xgrammar SYSTEM PUBLIC "${XGRAMMAR_ROOT}/include" "${XGRAMMAR_ROOT}/3rdparty/dlpack/include"
                           PRIVATE "${XGRAMMAR_ROOT}/3rdparty/picojson")
target_compile_definitions(xgrammar PRIVATE XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0
                           XGRAMMAR_LOG_CUSTOMIZE=1)
target_compile_options(xgrammar PRIVATE -w)
target_link_libraries(xgrammar PUBLIC Threads::Threads)
if(ADAMOE_SANITIZE MATCHES undefined)
  # What it does against the letter of the standard is not ours to mend, and ends no process but its own.
  target_compile_options(xgrammar PRIVATE -fno-sanitize=undefined)
endif()
