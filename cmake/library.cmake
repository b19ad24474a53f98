# libocior.so: the whole engine behind the public headers (include/ocior, the only symbols it exports), and its installation with
# find_package(ocior) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_compile_definitions(ocior_run PRIVATE OCIOR_VERSION="${PROJECT_VERSION}")

file(WRITE ${CMAKE_BINARY_DIR}/exports.map [[
{
  global:
    extern "C++" {
      ocior::*;
      "typeinfo for ocior::*";
      "typeinfo name for ocior::*";
      "vtable for ocior::*";
    };
  local: *;
};
]])
add_library(ocior SHARED ${CMAKE_BINARY_DIR}/library.cpp)
file(WRITE ${CMAKE_BINARY_DIR}/library.cpp "// libocior.so consists of the layers' archives.\n")
# The layers that define public functions enter whole; what they need of the others follows.
target_link_libraries(ocior PRIVATE -Wl,--whole-archive $<TARGET_FILE:ocior_run> $<TARGET_FILE:ocior_tensor> -Wl,--no-whole-archive ocior_run)
add_dependencies(ocior ocior_run ocior_tensor)
target_link_options(ocior PRIVATE -Wl,--version-script=${CMAKE_BINARY_DIR}/exports.map -Wl,--no-undefined)
target_include_directories(ocior PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(ocior PUBLIC cxx_std_20)
set_target_properties(ocior PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
if(OCIOR_FUZZERS)
  set_target_properties(ocior PROPERTIES EXCLUDE_FROM_ALL ON)   # clang has its sanitizers in programs only
endif()

if(NOT SKBUILD)
  install(TARGETS ocior EXPORT ocior-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/ocior DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT ocior-targets NAMESPACE ocior:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ocior)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/models/qa DESTINATION ${CMAKE_INSTALL_DATADIR}/ocior/models)
  file(WRITE ${CMAKE_BINARY_DIR}/ocior-config.cmake "include(\"\${CMAKE_CURRENT_LIST_DIR}/ocior-targets.cmake\")\n")
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/ocior-config-version.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/ocior-config.cmake ${CMAKE_BINARY_DIR}/ocior-config-version.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ocior)
  file(RELATIVE_PATH ocior_pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/ocior.pc.in ${CMAKE_BINARY_DIR}/ocior.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/ocior.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
