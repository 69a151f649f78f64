# Writes common/base/version.h into the build tree at every build, but touches it only when the
# revision changed, so that nothing is compiled again for nothing.
set(QSWEEP_VERSION_HEADER ${PROJECT_BINARY_DIR}/common/base/version.h)
set(version_command ${CMAKE_COMMAND}
  -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DVERSION=${PROJECT_VERSION}
  -DTEMPLATE=${PROJECT_SOURCE_DIR}/common/base/version.h.in -DOUTPUT=${QSWEEP_VERSION_HEADER}
  -P ${PROJECT_SOURCE_DIR}/deploy/cmake/write_version.cmake)
execute_process(COMMAND ${version_command})
add_custom_target(qsweep_version_header COMMAND ${version_command} BYPRODUCTS ${QSWEEP_VERSION_HEADER})
