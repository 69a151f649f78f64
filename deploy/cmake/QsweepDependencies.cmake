# Packages of Debian 12, and the libtorch that set-up or the user provides.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(simdjson CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc data)
find_path(QSWEEP_PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(QSWEEP_PCRE2_LIBRARY pcre2-8 REQUIRED)
add_library(qsweep_pcre2 INTERFACE)
add_library(qsweep::pcre2 ALIAS qsweep_pcre2)
target_include_directories(qsweep_pcre2 SYSTEM INTERFACE ${QSWEEP_PCRE2_INCLUDE_DIR})
target_link_libraries(qsweep_pcre2 INTERFACE ${QSWEEP_PCRE2_LIBRARY})
if(NOT QSWEEP_ENGINE_ONLY)
  find_package(Protobuf MODULE REQUIRED)  # 3.21 ships no CMake config
  find_package(gRPC CONFIG REQUIRED)
  find_package(SQLite3 REQUIRED)
  find_package(yaml-cpp CONFIG REQUIRED)
  find_package(Boost REQUIRED)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
endif()
if(QSWEEP_BUILD_TESTS)
  find_package(GTest REQUIRED)
  if(NOT QSWEEP_ENGINE_ONLY)
    find_package(rapidcheck CONFIG REQUIRED)
  endif()
endif()

if(QSWEEP_TORCH)
  set(torch_dir ${QSWEEP_TORCH_DIR})
  if(NOT torch_dir)
    file(GLOB torch_dir ${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch)
  endif()
  if(NOT EXISTS "${torch_dir}/lib/libtorch_cpu.so")
    message(FATAL_ERROR "No libtorch in '${torch_dir}'. Run 'bash deploy/setup.sh', or set "
                        "QSWEEP_TORCH_DIR to a folder with include/ and lib/, or configure "
                        "with -DQSWEEP_TORCH=OFF to build everything but the engine.")
  endif()
  # An own imported target: Torch's package file drags in caffe2, MKL and CUDA detection and
  # sets global flags.
  add_library(qsweep_torch INTERFACE)
  add_library(qsweep::torch ALIAS qsweep_torch)
  target_include_directories(qsweep_torch SYSTEM INTERFACE ${torch_dir}/include)
  target_link_libraries(qsweep_torch INTERFACE
    ${torch_dir}/lib/libtorch_cpu.so ${torch_dir}/lib/libc10.so)
  target_link_options(qsweep_torch INTERFACE "LINKER:-rpath,${torch_dir}/lib")
  if(EXISTS "${torch_dir}/lib/libtorch_cuda.so")
    set(QSWEEP_TORCH_HAS_CUDA ON)
    # It registers its operators when it is loaded; nothing refers to it. What it needs of CUDA
    # it finds by itself.
    target_link_libraries(qsweep_torch INTERFACE ${torch_dir}/lib/libc10_cuda.so
      "-Wl,--no-as-needed" ${torch_dir}/lib/libtorch_cuda.so "-Wl,--as-needed")
    target_link_options(qsweep_torch INTERFACE "LINKER:--allow-shlib-undefined")
  endif()
endif()
