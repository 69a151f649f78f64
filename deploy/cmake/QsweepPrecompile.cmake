# QSWEEP_PCH halves a build from nothing, which spends most of its time on the headers of the
# standard library, Abseil, protobuf and gRPC. For the scripts; off in daily work, where each file
# shows that it includes what it uses and a new header of ours must not compile everything again.
option(QSWEEP_PCH "Precompile the headers of others: a faster build from nothing" OFF)
if(NOT QSWEEP_PCH OR QSWEEP_ENGINE_ONLY)
  return()
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(qsweep_flags INTERFACE -fpch-preprocess)  # or ccache steps aside
endif()

# qsweep_precompile(NAME HEADERS ... DEPS ... TARGETS ...): one header for all TARGETS. Its flags
# must be theirs (the compiler warns when they are not), so it is compiled in a target of its own.
function(qsweep_precompile name)
  cmake_parse_arguments(ARG "" "" "HEADERS;DEPS;TARGETS" ${ARGN})
  set(source ${PROJECT_BINARY_DIR}/${name}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "")
  add_library(${name} OBJECT ${source})
  target_link_libraries(${name} PRIVATE qsweep_flags ${ARG_DEPS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
  foreach(target IN LISTS ARG_TARGETS)
    if(TARGET ${target})  # without torch there is no engine
      target_precompile_headers(${target} REUSE_FROM ${name})
    endif()
  endforeach()
endfunction()

set(plain_headers
  <algorithm> <array> <charconv> <chrono> <cmath> <cstdint> <cstring> <filesystem> <fstream>
  <functional> <map> <memory> <mutex> <optional> <set> <span> <sstream> <string> <thread>
  <unordered_map> <utility> <variant> <vector>
  <absl/container/btree_map.h> <absl/container/flat_hash_map.h> <absl/container/flat_hash_set.h>
  <absl/status/status.h> <absl/status/statusor.h> <absl/strings/escaping.h>
  <absl/strings/numbers.h> <absl/strings/str_cat.h> <absl/strings/str_format.h>
  <absl/strings/str_join.h> <absl/strings/str_replace.h> <absl/strings/str_split.h>
  <absl/time/time.h>)
set(proto_headers ${plain_headers}
  <qsweep/v1/coordinator.pb.h> <qsweep/v1/engine.pb.h> <qsweep/v1/worker.pb.h>)

qsweep_precompile(qsweep_pch_plain
  HEADERS ${plain_headers}
  DEPS absl::statusor
  TARGETS qsweep_base qsweep_job_types qsweep_analysis qsweep_model qsweep_tokenizer
          qsweep_worker_eval qsweep_worker_sweep qsweep_worker_engine qengine)
qsweep_precompile(qsweep_pch_proto
  HEADERS ${proto_headers}
  DEPS qsweep_proto absl::statusor
  TARGETS qsweep_job qsweep_rpc_base qsweep_coordinator_core qsweep_coordinator_store
          qsweep_coordinator_loop qsweep_results_conversion qsweep_qctl_output
          qsweep_qctl_results qsweep_qctl qsweep_agent_core qsweep_agent qsweep_worker_engine_pipe
          qctl qcoordinator qworker)
qsweep_precompile(qsweep_pch_grpc
  HEADERS ${proto_headers} <grpcpp/grpcpp.h> <qsweep/v1/coordinator.grpc.pb.h>
          <qsweep/v1/worker.grpc.pb.h>
  DEPS qsweep_proto_grpc
  TARGETS qsweep_rpc qsweep_coordinator_service)

# Files of one library are compiled four at a time: what they instantiate alike costs once. So
# they cannot use one name for two things in their unnamed namespaces.
foreach(target qsweep_proto_grpc qsweep_base qsweep_job qsweep_job_types qsweep_model
        qsweep_tokenizer qsweep_rpc qsweep_coordinator_core
        qsweep_coordinator_store qsweep_coordinator_loop qsweep_coordinator_service
        qsweep_agent qsweep_qctl qsweep_qctl_output qsweep_qctl_results
        qengine)
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
    # g++ means headers, and takes a .cc that another one includes for one.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endforeach()

if(QSWEEP_TORCH)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/worker/engine/main.cc  # revision
    TARGET_DIRECTORY qengine PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endif()

# What reads the command line and prints gains nothing from -O2.
foreach(target qsweep_qctl qsweep_qctl_output qsweep_qctl_results)
  target_compile_options(${target} PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1>)
endforeach()

if(NOT QSWEEP_BUILD_TESTS)
  return()
endif()

# Tests: a third of the time goes into the headers of GoogleTest and protobuf. None includes torch.
get_property(test_targets DIRECTORY ${PROJECT_SOURCE_DIR}/tests PROPERTY BUILDSYSTEM_TARGETS)
list(FILTER test_targets INCLUDE REGEX "^test_")
# What compiles or calls device code is not compiled like the rest.
list(FILTER test_targets EXCLUDE REGEX "_cuda_|^test_worker_kernels_(emulated_kernels|kernels_gpu)$")
qsweep_precompile(qsweep_pch_test
  HEADERS ${proto_headers} <gmock/gmock.h> <gtest/gtest.h>
  DEPS qsweep_proto absl::statusor GTest::gmock
  TARGETS ${test_targets})
foreach(target fuzz_checkpoint fuzz_gguf fuzz_selector fuzz_spool fuzz_tokenizer)
  target_precompile_headers(${target} REUSE_FROM qsweep_pch_plain)
endforeach()
foreach(target core_states store_batches chaos_support e2e_support sim_objects sim_small_objects
        qsim qsim_planted qchaos fake_qengine fuzz_access fuzz_corpus fuzz_database fuzz_frame
        fuzz_loop fuzz_query fuzz_spec)
  target_precompile_headers(${target} REUSE_FROM qsweep_pch_proto)
endforeach()
target_precompile_headers(qbench_scheduler REUSE_FROM qsweep_pch_grpc)
set_target_properties(sim_small_objects qbench_scheduler PROPERTIES
  UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
# What tests compile a second time, with bugs planted, takes the place of one member of a library.
foreach(target qsim_planted test_sim_second_compilation)
  get_target_property(twice ${target} SOURCES)
  list(FILTER twice INCLUDE REGEX "^\\.\\./")
  list(TRANSFORM twice REPLACE "^\\.\\." ${PROJECT_SOURCE_DIR})
  set_source_files_properties(${twice} TARGET_DIRECTORY qsweep_coordinator_core
    qsweep_coordinator_loop qsweep_coordinator_store qsweep_coordinator_service qsweep_agent
    PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endforeach()

# As in the libraries: the tests of one program, eight files at a time.
get_property(test_groups GLOBAL PROPERTY QSWEEP_TEST_GROUPS)
set_target_properties(${test_groups} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
foreach(target IN LISTS test_groups)
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endforeach()

# Assertions are most of a test's code: neither -O2 nor line numbers in a debugger pay for them.
# -pthread defines a macro; some tests have it from gRPC, and with one header all need it. At -O1
# g++ 12 takes its own std::string for overlapping memory.
foreach(target ${test_targets} qsweep_pch_test)
  target_compile_options(${target} PRIVATE -pthread $<$<CONFIG:RelWithDebInfo>:-O1;-g0>
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
endforeach()
