# The three ways to make a target. One target per leaf folder, sources listed, never globbed.

add_library(qsweep_flags INTERFACE)
target_include_directories(qsweep_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_compile_options(qsweep_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
  -Wextra-semi -Woverloaded-virtual
  $<$<CXX_COMPILER_ID:GNU>:-Wno-missing-field-initializers>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Wno-missing-field-initializers -Wno-sign-conversion>
  $<$<BOOL:${QSWEEP_WERROR}>:-Werror>)
# Generated code is instrumented, too: it has no warnings of ours but our messages.
add_library(qsweep_sanitize INTERFACE)
if(QSWEEP_SANITIZE)
  target_compile_options(qsweep_sanitize INTERFACE
    -fsanitize=${QSWEEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(qsweep_sanitize INTERFACE -fsanitize=${QSWEEP_SANITIZE})
endif()
# Protobuf's headers lay out a map field differently under ThreadSanitizer. The packaged library
# was built without it, so neither may our side see the macro: it crashed in the first map.
if(QSWEEP_SANITIZE MATCHES thread)
  target_compile_options(qsweep_sanitize INTERFACE -U__SANITIZE_THREAD__)
endif()
target_link_libraries(qsweep_flags INTERFACE qsweep_sanitize)
# What the sanitizers' runtimes are told in every test. Each suppression names whose defect it is.
set(QSWEEP_TEST_ENVIRONMENT)
if(QSWEEP_SANITIZE MATCHES thread)
  list(APPEND QSWEEP_TEST_ENVIRONMENT
    "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/tsan.supp:halt_on_error=1:report_thread_leaks=0")
elseif(QSWEEP_SANITIZE MATCHES address)
  list(APPEND QSWEEP_TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
    "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/lsan.supp:print_suppressions=0"
    "UBSAN_OPTIONS=print_stacktrace=1")
endif()

find_program(QSWEEP_MOLD mold)
if(QSWEEP_MOLD)
  target_link_options(qsweep_flags INTERFACE -fuse-ld=mold)
endif()

# qsweep_library(NAME HEADERS ... SOURCES ... DEPS ... PRIVATE_DEPS ...)
# DEPS: what our headers show. PRIVATE_DEPS: what only the sources use.
function(qsweep_library name)
  cmake_parse_arguments(ARG "" "" "HEADERS;SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target qsweep_${name})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE qsweep_flags ${ARG_PRIVATE_DEPS})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(qsweep::${name} ALIAS ${target})
  target_include_directories(${target} ${scope} ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_sources(${target} ${scope} FILE_SET HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_link_libraries(${target} ${scope} ${ARG_DEPS})
endfunction()

# qsweep_binary(NAME SOURCES ... DEPS ...): an executable in bin/.
function(qsweep_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE qsweep_flags ${ARG_DEPS})
  qsweep_explain_locks(${name})
endfunction()

# Tells ThreadSanitizer what the locks of the packaged Abseil order in the executable NAME.
function(qsweep_explain_locks name)
  if(QSWEEP_SANITIZE MATCHES thread AND QSWEEP_BUILD_TESTS)
    target_link_libraries(${name} PRIVATE tsan_absl_mutex)
  endif()
endfunction()

# qsweep_test(PATH LABELS ... [FILES ...] [DEPS ...] [TIMEOUT S] [SOURCES ...] [WAITS]): a program and
# one CTest test named PATH. Without FILES it is tests/PATH_test.cc alone, in a process of its own. With
# FILES it holds the FILE_test.cc of each, of the folder tests/PATH, or where there is none of the
# folder that tests/PATH would be in: one program is built in less than half the time of many. More
# SOURCES are relative to tests/. WAITS: it takes hardly a tenth of a core. CTest counts half cores, so
# that with --parallel 5 on two cores such a test runs beside two that compute.
function(qsweep_test path)
  cmake_parse_arguments(ARG "WAITS" "TIMEOUT" "FILES;SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    message(FATAL_ERROR "qsweep_test(${path}): give LABELS")
  endif()
  string(REPLACE "/" "_" target test_${path})
  if(NOT ARG_FILES)
    set(files tests/${path})
  else()
    set(folder tests/${path})
    if(NOT IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
      cmake_path(GET folder PARENT_PATH folder)
    endif()
    list(TRANSFORM ARG_FILES PREPEND ${folder}/ OUTPUT_VARIABLE files)
    set_property(GLOBAL APPEND PROPERTY QSWEEP_TEST_GROUPS ${target})
  endif()
  list(TRANSFORM files APPEND _test.cc)
  set_property(GLOBAL APPEND PROPERTY QSWEEP_REGISTERED_TESTS ${files})
  list(TRANSFORM files PREPEND ${PROJECT_SOURCE_DIR}/)
  add_executable(${target} ${files} ${ARG_SOURCES})
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${target} PRIVATE qsweep_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${target} PRIVATE
    QSWEEP_SOURCE_DIR="${PROJECT_SOURCE_DIR}" QSWEEP_BINARY_DIR="${CMAKE_BINARY_DIR}")
  qsweep_explain_locks(${target})
  add_test(NAME ${path} COMMAND ${target})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${path} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    COST ${ARG_TIMEOUT} PROCESSORS 2 ENVIRONMENT "${QSWEEP_TEST_ENVIRONMENT}")  # the longest first
  if(ARG_WAITS)  # one after the other, from the start
    set_tests_properties(${path} PROPERTIES COST 2000 PROCESSORS 1 RESOURCE_LOCK waiting)
  endif()
endfunction()

# The Python of the tests: build/venv when set-up made one, else the system's.
set(QSWEEP_PYTHON ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
if(NOT EXISTS ${QSWEEP_PYTHON})
  set(QSWEEP_PYTHON python3)
endif()

# qsweep_python_test(PATH LABELS ... [TIMEOUT S]): runs tests/PATH.py with QSWEEP_PYTHON. The
# script gets the folder of the binaries as its first argument.
function(qsweep_python_test path)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS" ${ARGN})
  add_test(NAME ${path}
    COMMAND ${QSWEEP_PYTHON} ${PROJECT_SOURCE_DIR}/tests/${path}.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${path} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    COST ${ARG_TIMEOUT} PROCESSORS 2)
endfunction()

# Fails the configuration on a tests/**/*_test.cc that no qsweep_test names: a test that is not
# built rots unseen.
function(qsweep_check_every_test_is_registered)
  get_property(registered GLOBAL PROPERTY QSWEEP_REGISTERED_TESTS)
  file(GLOB_RECURSE found RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS
       ${PROJECT_SOURCE_DIR}/tests/*_test.cc)
  foreach(file IN LISTS found)
    if(NOT file IN_LIST registered AND NOT file IN_LIST ARGN)
      message(FATAL_ERROR "${file} is not registered: add a qsweep_test to tests/CMakeLists.txt")
    endif()
  endforeach()
endfunction()
