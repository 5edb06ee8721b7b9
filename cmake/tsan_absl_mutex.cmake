# Every target of a build with the thread sanitizer has its calls of absl::Mutex go through tsan_absl_mutex.cc.
add_library(tsan_absl_mutex STATIC "${CMAKE_CURRENT_LIST_DIR}/tsan_absl_mutex.cc")
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/tsan_absl_mutex.cc" PROPERTIES COMPILE_OPTIONS
                            -fno-sanitize=thread)
target_link_libraries(tsan_absl_mutex PUBLIC absl::synchronization absl::time)
set(calls
  Mutex4LockEv Mutex10ReaderLockEv Mutex7TryLockEv Mutex6UnlockEv Mutex12ReaderUnlockEv
  Mutex8LockWhenERKNS0_9ConditionE Mutex5AwaitERKNS0_9ConditionE
  Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE
  CondVar4WaitEPNS0_5MutexE CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE
  CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE)
foreach(call ${calls})
  string(REGEX MATCH "^(Mutex|CondVar)" class ${call})
  string(LENGTH ${class} length)
  target_link_options(tsan_absl_mutex INTERFACE "-Wl,--wrap=_ZN4absl7debian3${length}${call}")
endforeach()
link_libraries(tsan_absl_mutex)
