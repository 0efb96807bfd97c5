# LibTorch from the PyPI wheel, as scripts/setup.sh unpacks it: ROOT/torch/{include,lib} beside ROOT/nvidia/cu13/lib.
#
# The wheel's own TorchConfig.cmake insists on a CUDA toolkit; this finder needs none. It defines
#   LibTorch::LibTorch    libtorch_cpu, libc10 and their OpenMP, with their include folders
#   LibTorch_ROOT_DIR     the folder that holds torch/ and nvidia/ side by side
# CUDA's half (libtorch_cuda.so) is never linked: the program opens it at run time.
set(OPENSORA_SITE_PACKAGES "${PROJECT_SOURCE_DIR}/third_party/site-packages"
    CACHE PATH "Folder with torch/ and nvidia/ side by side, as in site-packages")

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h
          PATHS "${OPENSORA_SITE_PACKAGES}/torch/include" NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu
             PATHS "${OPENSORA_SITE_PACKAGES}/torch/lib" NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10
             PATHS "${OPENSORA_SITE_PACKAGES}/torch/lib" NO_DEFAULT_PATH)
find_file(LibTorch_GOMP_LIBRARY libgomp.so.1
          PATHS "${OPENSORA_SITE_PACKAGES}/torch/lib" NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_GOMP_LIBRARY LibTorch_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, which unpacks it into third_party/site-packages")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
  # The wheel's own OpenMP: at::parallel_for() is inline code that calls it.
  add_library(LibTorch::gomp SHARED IMPORTED)
  set_target_properties(LibTorch::gomp PROPERTIES IMPORTED_LOCATION "${LibTorch_GOMP_LIBRARY}")
  add_library(LibTorch::LibTorch SHARED IMPORTED)
  set_target_properties(LibTorch::LibTorch PROPERTIES
    IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "LibTorch::c10;LibTorch::gomp"
    # Last in the search order: the wheel carries a newer fmt than Debian's spdlog wants.
    INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter \"${LibTorch_INCLUDE_DIR}\"")
  set(LibTorch_ROOT_DIR "${OPENSORA_SITE_PACKAGES}")
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_GOMP_LIBRARY)
