# Fuzz targets. In the preset `fuzz` they are libFuzzer programs, which deploy/fuzz.sh runs; in every
# other a program replays the seeds of tests/fuzz/corpus/NAME in the test run, so no target rots.
if(QSWEEP_FUZZ)
  add_custom_target(fuzzers)
else()
  add_library(fuzz_replay OBJECT fuzz/replay_main.cc)
  target_link_libraries(fuzz_replay PRIVATE qsweep_flags)
endif()

# qsweep_fuzz(NAME DEPS ... [SOURCES ...]): tests/fuzz/NAME_fuzz.cc. SOURCES: relative to tests/.
function(qsweep_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  set(target fuzz_${name})
  add_executable(${target} fuzz/${name}_fuzz.cc ${ARG_SOURCES})
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${target} PRIVATE qsweep_flags ${ARG_DEPS})
  if(QSWEEP_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${target})
    return()
  endif()
  target_link_libraries(${target} PRIVATE fuzz_replay)
  if(QSWEEP_SANITIZE MATCHES thread)
    target_link_libraries(${target} PRIVATE tsan_absl_mutex)
  endif()
  add_test(NAME fuzz/${name}
    COMMAND ${target} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  set_tests_properties(fuzz/${name} PROPERTIES LABELS unit TIMEOUT 120 PROCESSORS 2
    ENVIRONMENT "${QSWEEP_TEST_ENVIRONMENT}")
endfunction()

# Single files of libraries that are large and not under test here.
qsweep_fuzz(access
  SOURCES ../coordinator/qctl/selector.cc ../coordinator/service/certificates.cc
          ../coordinator/service/listen_address.cc
  DEPS qsweep::rpc OpenSSL::Crypto)
qsweep_fuzz(checkpoint DEPS qsweep::model)
qsweep_fuzz(corpus DEPS qsweep::job)
qsweep_fuzz(database DEPS store_batches qsweep::coordinator_loop)
qsweep_fuzz(frame DEPS qsweep::rpc_base)
qsweep_fuzz(gguf DEPS qsweep::model)
qsweep_fuzz(loop
  SOURCES fuzz/fuzzed_coordinator.cc fuzz/message_mutator.cc sim/memory_vfs.cc
  DEPS core_states qsweep::coordinator_loop SQLite::SQLite3)
qsweep_fuzz(query DEPS store_batches)
qsweep_fuzz(selector DEPS qsweep::job_types qsweep::worker_eval)
qsweep_fuzz(spec DEPS qsweep::job)
qsweep_fuzz(spool SOURCES ../worker/agent/spool.cc DEPS qsweep::base)
qsweep_fuzz(tokenizer DEPS qsweep::model)
