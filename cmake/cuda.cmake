# The CUDA operations (csrc/cuda), built into the extension _core_cuda where nvcc is found and works.
# MODEL_FORENSICS_CUDA=AUTO skips them with a reason, ON makes the reason an error, OFF does not look.
# Included, not a function: CMake enables a language at file scope only.

macro(model_forensics_without_cuda reason)
  if(MODEL_FORENSICS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MODEL_FORENSICS_CUDA is ON, but ${reason}. Install the CUDA toolkit, 12.0 or newer, and put nvcc "
                        "on PATH or set CUDACXX to it; or set MODEL_FORENSICS_CUDA to AUTO or OFF.")
  endif()
  message(STATUS "No CUDA operations: ${reason}")
endmacro()

if(MODEL_FORENSICS_CUDA STREQUAL "OFF")
  message(STATUS "No CUDA operations: MODEL_FORENSICS_CUDA is OFF")
  return()
endif()

if(NOT DEFINED ENV{CUDACXX} AND NOT DEFINED CMAKE_CUDA_COMPILER)
  find_program(MODEL_FORENSICS_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT MODEL_FORENSICS_NVCC)
    model_forensics_without_cuda("nvcc is not found")
    return()
  endif()
  set(ENV{CUDACXX} "${MODEL_FORENSICS_NVCC}")
endif()
if(NOT DEFINED ENV{CUDAHOSTCXX})
  set(ENV{CUDAHOSTCXX} "${CMAKE_CXX_COMPILER}")
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  model_forensics_without_cuda(
    "nvcc ($ENV{CUDACXX}) with $ENV{CUDAHOSTCXX} cannot build a program; CMake's log in ${CMAKE_BINARY_DIR}/CMakeFiles says why")
  return()
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  model_forensics_without_cuda("nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no C++20")
  return()
endif()

# Machine code for the architectures that this nvcc knows, and PTX of the newest, which newer GPUs compile on loading.
if(NOT DEFINED MODEL_FORENSICS_CUDA_ARCHITECTURES)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known)
  foreach(architecture 80 90 100)
    if("${known}\n" MATCHES "compute_${architecture}\n")
      list(APPEND MODEL_FORENSICS_CUDA_ARCHITECTURES ${architecture}-real)
      set(newest ${architecture}-virtual)
    endif()
  endforeach()
  list(APPEND MODEL_FORENSICS_CUDA_ARCHITECTURES ${newest})
endif()

file(GLOB sources CONFIGURE_DEPENDS csrc/cuda/*.cu csrc/cuda/*.cpp)
pybind11_add_module(_core_cuda MODULE NO_EXTRAS csrc/bindings/cuda_module.cpp ${sources})
target_include_directories(_core_cuda PRIVATE csrc/cuda)
target_compile_features(_core_cuda PRIVATE cxx_std_20 cuda_std_20)
target_compile_definitions(_core_cuda PRIVATE
  MODEL_FORENSICS_CUDA_COMPILER="${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
set_target_properties(_core_cuda PROPERTIES
  CUDA_RUNTIME_LIBRARY Static
  CUDA_ARCHITECTURES "${MODEL_FORENSICS_CUDA_ARCHITECTURES}"
  CUDA_VISIBILITY_PRESET hidden
  CXX_VISIBILITY_PRESET hidden)
# Results are the same bits in every backend, so the compiler must not fuse a * b + c.
target_compile_options(_core_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-ffp-contract=off>)
install(TARGETS _core_cuda LIBRARY DESTINATION model_forensics)
message(STATUS "CUDA operations: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${MODEL_FORENSICS_CUDA_ARCHITECTURES}")
