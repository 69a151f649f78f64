# The options a preset sets. Nothing here has an effect of its own.
option(QSWEEP_BUILD_TESTS "Build the tests" ON)
option(QSWEEP_CCACHE "Compile through ccache when it is installed" OFF)
option(QSWEEP_WERROR "Warnings are errors" OFF)
option(QSWEEP_TORCH "Build the engine on libtorch; OFF leaves qengine out" ON)
option(QSWEEP_CUDA "Fail the configuration when nvcc is missing" OFF)
option(QSWEEP_CUDA_PTX_ONLY "Kernels as PTX of the oldest GPU alone: every GPU runs that code" OFF)
option(QSWEEP_ENGINE_ONLY "Only the engine, its kernels and checks: no gRPC, protobuf, SQLite" OFF)
option(QSWEEP_FUZZ "Link the fuzz targets with libFuzzer; OFF replays their seeds as tests" OFF)
set(QSWEEP_SANITIZE "" CACHE STRING "Value of -fsanitize=, or empty")
set(QSWEEP_TORCH_DIR "$ENV{QSWEEP_TORCH_DIR}" CACHE PATH
    "Folder of a libtorch (holds include/ and lib/); empty: the one in build/venv")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

if(QSWEEP_CCACHE)
  find_program(QSWEEP_CCACHE_PROGRAM ccache)
  if(QSWEEP_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${QSWEEP_CCACHE_PROGRAM})
  endif()
endif()
