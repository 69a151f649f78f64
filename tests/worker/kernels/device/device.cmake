# The kernels' tests, once with the kernels compiled for the host, on the emulation, and once on a
# CUDA device.
set(device_cases worker/kernels/device/decoder_rows_cases.cc worker/kernels/device/dequantize_int4_cases.cc
    worker/kernels/device/device_weights.cc worker/kernels/device/gptq_cases.cc
    worker/kernels/device/head_stats_cases.cc
    worker/kernels/device/hqq_cases.cc worker/kernels/device/kept_weights_cases.cc
    worker/kernels/device/nf4_cases.cc
    worker/kernels/device/rtn_cases.cc support/kernel_references.cc
    support/quantizer_references.cc)
set(kernels_dir ${PROJECT_SOURCE_DIR}/worker/kernels)
set(kernel_sources ${kernels_dir}/decoder_rows.cu ${kernels_dir}/dequantize_int4.cu ${kernels_dir}/gptq.cu
    ${kernels_dir}/head_stats.cu
    ${kernels_dir}/hqq.cu ${kernels_dir}/kept_weights.cu ${kernels_dir}/nf4.cu ${kernels_dir}/rtn.cu)

# ThreadSanitizer does not know the emulation's fibers, and there is one thread.
if(NOT QSWEEP_SANITIZE MATCHES thread)
  set_source_files_properties(${kernel_sources} PROPERTIES LANGUAGE CXX
    COMPILE_OPTIONS "-O2;-ffp-contract=off;-x;c++")
  # Its fibers jump between stacks, which glibc's check of longjmp takes for an error.
  set_source_files_properties(support/cuda_emulation.cc PROPERTIES COMPILE_OPTIONS -U_FORTIFY_SOURCE)
  add_library(emulated_kernels STATIC support/cuda_emulation.cc ${kernel_sources})
  target_link_libraries(emulated_kernels PRIVATE qsweep_flags)
  qsweep_test(worker/kernels/emulated_kernels SOURCES ${device_cases}
    DEPS qsweep::base qsweep::kernels qsweep::worker_row_kernels emulated_kernels
    LABELS unit TIMEOUT 600)
  set_tests_properties(worker/kernels/emulated_kernels PROPERTIES PROCESSORS 1)  # one thread
  # What of the engine calls kernels and no libtorch.
  qsweep_test(worker/engine/cuda_gptq
    SOURCES support/emulated_memory.cc ${PROJECT_SOURCE_DIR}/worker/engine/cuda_gptq.cc
    DEPS qsweep::base qsweep::job_types qsweep::kernels emulated_kernels LABELS unit)
else()
  list(APPEND not_in_this_preset tests/worker/engine/cuda_gptq_test.cc
       tests/worker/kernels/emulated_kernels_test.cc)
endif()

if(QSWEEP_HAS_NVCC)
  qsweep_test(worker/kernels/kernels_gpu SOURCES ${device_cases} support/cuda_device.cc
    DEPS qsweep::base qsweep::kernels qsweep::worker_row_kernels qsweep::kernels_cuda LABELS gpu)
  target_compile_definitions(test_worker_kernels_kernels_gpu PRIVATE QSWEEP_HAS_NVCC)
else()
  qsweep_test(worker/kernels/kernels_gpu LABELS gpu)
endif()
qsweep_python_test(worker/kernels/architectures_test LABELS gpu)
