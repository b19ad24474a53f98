# Loops over elements that no kernel covers (integers, bools, double, strided rows): -O2 of g++ 12 leaves them scalar.
file(GLOB ocior_ops_loops CONFIGURE_DEPENDS
     ${CMAKE_SOURCE_DIR}/src/ops/typed.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/image/resample.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/logic/*.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/math/*.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/nn/pool_ops.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/quant/*.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/tensor/top_k.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/tensor/where.cpp)
set_source_files_properties(${ocior_ops_loops} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>")

# Of the string operators: regular expressions in linear time, and the case of letters.
find_path(OCIOR_RE2_INCLUDE re2/re2.h REQUIRED)
find_library(OCIOR_RE2 re2 REQUIRED)
find_path(OCIOR_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(OCIOR_UTF8PROC utf8proc REQUIRED)
target_include_directories(ocior_ops SYSTEM PRIVATE ${OCIOR_RE2_INCLUDE} ${OCIOR_UTF8PROC_INCLUDE})
target_link_libraries(ocior_ops PRIVATE ${OCIOR_RE2} ${OCIOR_UTF8PROC})

# Of ImageDecoder: a library for each format that is not plain.
find_path(OCIOR_OPENJPEG_INCLUDE openjpeg.h PATH_SUFFIXES openjpeg-2.5 REQUIRED)
find_library(OCIOR_OPENJPEG openjp2 REQUIRED)
find_package(PNG REQUIRED)
find_package(TIFF 4.5 REQUIRED)
find_path(OCIOR_TURBOJPEG_INCLUDE turbojpeg.h REQUIRED)
find_library(OCIOR_TURBOJPEG turbojpeg REQUIRED)
find_path(OCIOR_WEBP_INCLUDE webp/decode.h REQUIRED)
find_library(OCIOR_WEBP webp REQUIRED)
target_include_directories(ocior_ops SYSTEM PRIVATE ${OCIOR_TURBOJPEG_INCLUDE} ${OCIOR_WEBP_INCLUDE} ${OCIOR_OPENJPEG_INCLUDE})
target_link_libraries(ocior_ops PRIVATE ${OCIOR_TURBOJPEG} ${OCIOR_WEBP} PNG::PNG TIFF::TIFF ${OCIOR_OPENJPEG})
