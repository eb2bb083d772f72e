// What the kernels need from CUDA, or, where a C++ compiler builds them for the tests, from its emulation.
#pragma once

#include <cstdint>
#include <stdexcept>

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#define MODEL_FORENSICS_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared, stream>>>(__VA_ARGS__)
#define MODEL_FORENSICS_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "cuda_emulation.hpp"
#endif

namespace model_forensics::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;
inline constexpr std::int64_t kMaxBlocks = 0x7FFFFFFF;  // of a launch
inline constexpr std::int64_t kSharedBytes = 48 * 1024;  // what a block may have without asking for more

__host__ __device__ constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// atomicAdd takes unsigned 64-bit integers only; the sum is the same modulo 2^64.
__device__ __forceinline__ void add(std::int64_t* address, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
}

// Sum over the warp, in every lane.
__device__ __forceinline__ std::int64_t warp_sum(std::int64_t value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    value += static_cast<std::int64_t>(__shfl_xor_sync(kAllLanes, static_cast<long long>(value), mask));
  }
  return value;
}

// Largest of the warp, in every lane.
__device__ __forceinline__ unsigned warp_max(unsigned value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const unsigned other = __shfl_xor_sync(kAllLanes, value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Sum over the lower lanes.
__device__ __forceinline__ std::uint32_t sum_before(std::uint32_t value) {
  std::uint32_t sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::uint32_t lower = __shfl_up_sync(kAllLanes, sum, distance);
    if (static_cast<int>(threadIdx.x) % kWarp >= distance) sum += lower;
  }
  return sum - value;
}

// What a launch reports at once: a wrong configuration, a kernel that this device has no code for.
inline void check_launch() {
#if defined(__CUDACC__)
  const cudaError_t state = cudaGetLastError();
  if (state != cudaSuccess) throw std::runtime_error(cudaGetErrorString(state));
#endif
}

inline void require_blocks(std::int64_t blocks) {
  if (blocks > kMaxBlocks) throw std::invalid_argument("the input needs more blocks than a launch may have");
}

}  // namespace model_forensics::cuda
