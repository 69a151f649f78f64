# cmake -DSOURCE_DIR= -DVERSION= -DTEMPLATE= -DOUTPUT= -P write_version.cmake
if(EXISTS ${SOURCE_DIR}/REVISION)  # packed sources carry it
  file(STRINGS ${SOURCE_DIR}/REVISION REVISION LIMIT_COUNT 1)
else()
  execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT REVISION)
  set(REVISION unknown)
endif()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
