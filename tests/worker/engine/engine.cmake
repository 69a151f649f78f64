# Tests and benchmarks of the engine and of its kernels on a device that need no proto.
include(worker/kernels/device/device.cmake)

if(QSWEEP_TORCH)
  qsweep_test(worker/engine/thread_pool DEPS qsweep::base qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/self_check DEPS qsweep::base qsweep::job_types qsweep::worker_engine
    qsweep::worker_row_kernels LABELS unit)
  qsweep_test(worker/engine/code_cache DEPS qsweep::base qsweep::kernels qsweep::worker_engine
              LABELS unit)
  qsweep_test(worker/engine/calibrator DEPS qsweep::base qsweep::job_types qsweep::worker_engine
              LABELS unit TIMEOUT 300)
  qsweep_test(worker/engine/largest_weights DEPS qsweep::base qsweep::job_types qsweep::model
              qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/pass DEPS qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/prepared_task DEPS qsweep::base qsweep::job_types qsweep::model
    qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/progress_reporter DEPS qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/engine
    FILES engine engine_equal_rows engine_memory engine_stop engine_weights host_memory weights
    DEPS qsweep::base qsweep::job_types qsweep::kernels qsweep::model qsweep::worker_engine
    LABELS unit)
  qsweep_test(worker/engine/cancel_time DEPS qsweep::base qsweep::job_types qsweep::model
    qsweep::worker_engine LABELS unit)
  qsweep_test(worker/engine/memory DEPS qsweep::base qsweep::job_types qsweep::worker_engine
    LABELS unit)
  qsweep_test(worker/engine/state_store DEPS qsweep::base qsweep::worker_engine
    qsweep::worker_row_kernels LABELS unit)
  qsweep_test(worker/engine/cuda_engine DEPS qsweep::base qsweep::job_types qsweep::worker_engine
    LABELS gpu TIMEOUT 300)
  qsweep_binary(qbench_engine SOURCES bench/qbench_engine.cc
    DEPS qsweep::job_types qsweep::kernels qsweep::worker_engine CLI11::CLI11
         nlohmann_json::nlohmann_json)
  set_target_properties(qbench_engine PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endif()

if(QSWEEP_HAS_NVCC)
  qsweep_binary(qbench_kernels_gpu SOURCES bench/qbench_kernels_gpu.cc
    DEPS qsweep::base qsweep::kernels_cuda nlohmann_json::nlohmann_json)
  set_target_properties(qbench_kernels_gpu PROPERTIES EXCLUDE_FROM_ALL ON
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endif()
