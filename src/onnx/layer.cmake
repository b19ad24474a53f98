find_path(OCIOR_PROTOZERO protozero/pbf_reader.hpp REQUIRED)
target_include_directories(ocior_onnx SYSTEM PUBLIC ${OCIOR_PROTOZERO})
