# Packages of Debian 12, and the libtorch that set-up or the user provides.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(Protobuf MODULE REQUIRED)  # 3.21 ships no CMake config
find_package(gRPC CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(simdjson CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(Boost REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
if(QSWEEP_BUILD_TESTS)
  find_package(GTest REQUIRED)
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
endif()
