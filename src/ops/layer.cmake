# Loops over elements that no kernel covers (integers, bools, double, strided rows): -O2 of g++ 12 leaves them scalar.
file(GLOB ocior_ops_loops CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/ops/typed.cpp ${CMAKE_SOURCE_DIR}/src/ops/math/*.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/logic/*.cpp ${CMAKE_SOURCE_DIR}/src/ops/quant/*.cpp ${CMAKE_SOURCE_DIR}/src/ops/tensor/where.cpp
     ${CMAKE_SOURCE_DIR}/src/ops/nn/pool_ops.cpp ${CMAKE_SOURCE_DIR}/src/ops/image/resample.cpp)
set_source_files_properties(${ocior_ops_loops} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>")
