# libocior.so: the whole engine behind the public headers (hidden visibility; only include/ocior is exported), and its installation.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_compile_definitions(ocior_run PRIVATE OCIOR_VERSION="${PROJECT_VERSION}")
