# nvcc, where there is one, and the target the kernels need. No CUDA language: CMake's detection
# takes seconds, and every GPU's code from one PTX is not a thing it can say.
find_program(QSWEEP_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
if(QSWEEP_NVCC)
  # Where the toolkit lies: nvcc itself may be a script somewhere else.
  execute_process(COMMAND ${QSWEEP_NVCC} --dryrun -x cu -E /dev/null
    OUTPUT_VARIABLE nvcc_says ERROR_VARIABLE nvcc_says)
  if(nvcc_says MATCHES "#\\$ TOP=([^\r\n]+)")
    get_filename_component(QSWEEP_CUDA_DIR "${CMAKE_MATCH_1}" REALPATH)
    find_library(QSWEEP_CUDART cudart_static PATHS ${QSWEEP_CUDA_DIR}
      PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib NO_DEFAULT_PATH)
  endif()
endif()
if(QSWEEP_NVCC AND QSWEEP_CUDART)
  set(QSWEEP_HAS_NVCC ON)
  add_library(qsweep_cudart INTERFACE)
  target_include_directories(qsweep_cudart SYSTEM INTERFACE ${QSWEEP_CUDA_DIR}/include)
  target_link_libraries(qsweep_cudart INTERFACE ${QSWEEP_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
elseif(QSWEEP_CUDA)
  message(FATAL_ERROR "QSWEEP_CUDA=ON needs nvcc and libcudart_static.a. Put nvcc on the PATH, set "
                      "CUDA_HOME to the CUDA toolkit, or configure with -DQSWEEP_CUDA=OFF.")
else()
  set(QSWEEP_HAS_NVCC OFF)
  message(STATUS "kernels not compiled: no nvcc")
endif()

# One front-end pass makes the PTX of sm_75, which any newer GPU can run, too, and from it the
# machine code of each: every GPU runs the same instructions, operation by operation.
set(QSWEEP_CUDA_ARCHITECTURES 75 80 86 89 90)
list(TRANSFORM QSWEEP_CUDA_ARCHITECTURES PREPEND "sm_" OUTPUT_VARIABLE sm_list)
list(GET QSWEEP_CUDA_ARCHITECTURES 0 first_architecture)
list(JOIN sm_list "," sm_list)
set(code compute_${first_architecture})
if(NOT QSWEEP_CUDA_PTX_ONLY)
  set(code "[${code},${sm_list}]")
endif()
set(QSWEEP_NVCC_FLAGS -std=c++20 -O3 --fmad=false
  -gencode "arch=compute_${first_architecture},code=${code}")
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  list(APPEND QSWEEP_NVCC_FLAGS -ccbin ${CMAKE_CXX_COMPILER})
endif()
if(QSWEEP_CUDA)
  list(APPEND QSWEEP_NVCC_FLAGS -lineinfo)  # for profilers; triples the objects
endif()
if(QSWEEP_WERROR)
  list(APPEND QSWEEP_NVCC_FLAGS --Werror all-warnings)
endif()

# qsweep_cuda_library(NAME HEADERS ... SOURCES x.cu ...): needs QSWEEP_HAS_NVCC.
function(qsweep_cuda_library name)
  cmake_parse_arguments(ARG "" "" "HEADERS;SOURCES" ${ARGN})
  foreach(source IN LISTS ARG_SOURCES)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${source}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${QSWEEP_NVCC} ${QSWEEP_NVCC_FLAGS} -I${PROJECT_SOURCE_DIR}
              -MD -MF ${object}.d -MT ${object} -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building CUDA object ${source}.o" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  add_library(qsweep_${name} STATIC ${objects})
  add_library(qsweep::${name} ALIAS qsweep_${name})
  set_target_properties(qsweep_${name} PROPERTIES LINKER_LANGUAGE CXX)
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_include_directories(qsweep_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_sources(qsweep_${name} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_link_libraries(qsweep_${name} PUBLIC qsweep_cudart)
endfunction()
