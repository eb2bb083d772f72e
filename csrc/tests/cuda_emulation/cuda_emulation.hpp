// Enough of CUDA to run the kernels of csrc/cuda on a CPU, for tests only.
//
// Each thread of a block is a fiber (ucontext); blocks run one after the other. A fiber runs until it waits at a barrier
// or a warp collective, so the order is fixed, and `order` reverses it: a kernel whose result depends on it lacks a
// barrier. Dynamic shared memory is a heap block of exactly the launched size, filled with garbage before each block, so
// that AddressSanitizer sees accesses past it and nobody can count on zeros. Threads that wait for each other for ever
// (a barrier that not all reach) end the process with a message.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct CUstream_st {};
using cudaStream_t = CUstream_st*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace cuda_emulation {

enum class Order { forward, reversed };
inline Order order = Order::forward;

inline dim3 block_index, block_size, grid_size;  // `thread_index` belongs to the running fiber
inline dim3 thread_index;

struct Barrier {
  unsigned arrived = 0;
  std::uint64_t passed = 0;
};

struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  bool done = false;
};

inline constexpr std::size_t kStack = 32 * 1024;
inline constexpr unsigned kWarp = 32;

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;                   // one barrier a warp
  std::vector<std::uint64_t> exchange;          // one slot a thread, for shuffles and ballots
  Barrier all;
  std::vector<unsigned char> shared;
  ucontext_t scheduler{};
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_size = 0;
  std::function<void()> body;
  bool progress = false;
};
inline Block block;

inline void switch_to_scheduler(Fiber& fiber, [[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, block.scheduler_stack, block.scheduler_stack_size);
#endif
  swapcontext(&fiber.context, &block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &block.scheduler_stack, &block.scheduler_stack_size);
#endif
}

inline void yield() {
  const unsigned self = thread_index.x;
  switch_to_scheduler(block.fibers[self], false);
}

inline void wait(Barrier& barrier, unsigned expected) {
  const std::uint64_t before = barrier.passed;
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    ++barrier.passed;
    block.progress = true;
    return;
  }
  while (barrier.passed == before) yield();
}

inline void wait_warp() {
  const unsigned warp = thread_index.x / kWarp;
  const unsigned lanes = std::min(kWarp, block_size.x - warp * kWarp);
  wait(block.warps[warp], lanes);
}

inline void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
#endif
  const unsigned self = thread_index.x;
  block.body();
  block.fibers[self].done = true;
  block.progress = true;
  switch_to_scheduler(block.fibers[self], true);
}

inline void resume(unsigned thread) {
  Fiber& fiber = block.fibers[thread];
  thread_index = {thread, 0, 0};
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStack);
#endif
  swapcontext(&block.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void run_block(unsigned threads, std::size_t shared) {
  block.all = {};
  block.warps.assign((threads + kWarp - 1) / kWarp, {});
  block.exchange.assign(threads, 0);
  block.shared = std::vector<unsigned char>(shared, 0xA5);
  if (block.fibers.size() < threads) block.fibers.resize(threads);
  for (unsigned thread = 0; thread < threads; ++thread) {
    Fiber& fiber = block.fibers[thread];
    if (!fiber.stack) fiber.stack = std::make_unique<char[]>(kStack);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &fiber_main, 0);
  }
  for (unsigned left = threads; left > 0;) {
    block.progress = false;
    for (unsigned turn = 0; turn < threads; ++turn) {
      const unsigned thread = order == Order::forward ? turn : threads - 1 - turn;
      if (block.fibers[thread].done) continue;
      resume(thread);
      if (block.fibers[thread].done) --left;
    }
    if (!block.progress) {
      std::fputs("threads of a block wait for each other: a barrier is not reached by all\n", stderr);
      std::abort();
    }
  }
}

inline void launch(std::int64_t blocks, unsigned threads, std::size_t shared, std::function<void()> body) {
  if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > 1024 || shared > 48 * 1024) {
    std::fputs("a launch outside the limits of a GPU\n", stderr);
    std::abort();
  }
  grid_size = {static_cast<unsigned>(blocks), 1, 1};
  block_size = {threads, 1, 1};
  block.body = std::move(body);
  for (unsigned index = 0; index < grid_size.x; ++index) {
    const unsigned position = order == Order::forward ? index : grid_size.x - 1 - index;
    block_index = {position, 0, 0};
    run_block(threads, shared);
  }
}

// The hardware's approximation at its worst: off by the documented bound (2^-22 from 0.5 to 2, 2 units in the last place
// elsewhere), to the side that the lowest bit of the argument says. Code that holds here holds on every GPU.
inline float hardware_log2(float value) {
  if (value < 0x1p-126F) return -HUGE_VALF;
  const double exact = std::log2(static_cast<double>(value));
  if (!std::isfinite(exact)) return static_cast<float>(exact);
  const double unit = std::ldexp(1.0, std::ilogb(exact == 0.0 ? 1.0 : exact) - 23);
  const double bound = value >= 0.5F && value <= 2.0F ? std::ldexp(1.0, -22) : 2 * unit;
  return static_cast<float>((std::bit_cast<std::uint32_t>(value) & 1U) != 0 ? exact + bound : exact - bound);
}

template <typename T>
T exchange(T value, unsigned from_lane) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  const unsigned self = thread_index.x;
  std::memcpy(&block.exchange[self], &value, sizeof(T));
  wait_warp();
  T other;
  std::memcpy(&other, &block.exchange[(self & ~(kWarp - 1)) + from_lane], sizeof(T));
  wait_warp();
  return other;
}

}  // namespace cuda_emulation

#define threadIdx (cuda_emulation::thread_index)
#define blockIdx (cuda_emulation::block_index)
#define blockDim (cuda_emulation::block_size)
#define gridDim (cuda_emulation::grid_size)

inline void __syncthreads() { cuda_emulation::wait(cuda_emulation::block.all, cuda_emulation::block_size.x); }
inline void __syncwarp() { cuda_emulation::wait_warp(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_emulation::exchange(value, (threadIdx.x % cuda_emulation::kWarp) ^ static_cast<unsigned>(mask));
}

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return cuda_emulation::exchange(value, static_cast<unsigned>(lane));
}

template <typename T>
T __shfl_up_sync(unsigned, T value, int distance) {
  const int lane = static_cast<int>(threadIdx.x % cuda_emulation::kWarp);
  return cuda_emulation::exchange(value, static_cast<unsigned>(lane >= distance ? lane - distance : lane));
}

inline int __reduce_add_sync(unsigned mask, int value) {
  unsigned sum = 0;
  for (int lane = 0; lane < static_cast<int>(cuda_emulation::kWarp); ++lane) {
    sum += static_cast<unsigned>(__shfl_sync(mask, value, lane));
  }
  return static_cast<int>(sum);
}

inline unsigned __ballot_sync(unsigned, bool holds) {
  unsigned votes = 0;
  const unsigned first = threadIdx.x & ~(cuda_emulation::kWarp - 1);
  cuda_emulation::block.exchange[threadIdx.x] = holds;
  cuda_emulation::wait_warp();
  for (unsigned lane = 0; lane < cuda_emulation::kWarp && first + lane < blockDim.x; ++lane) {
    votes |= static_cast<unsigned>(cuda_emulation::block.exchange[first + lane]) << lane;
  }
  cuda_emulation::wait_warp();
  return votes;
}

template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}

template <typename T>
T atomicOr(T* address, T value) {
  const T before = *address;
  *address = before | value;
  return before;
}

template <typename T>
T atomicXor(T* address, T value) {
  const T before = *address;
  *address = before ^ value;
  return before;
}

inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (shift & 31));
}
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// a + b rounded down; of values whose sum a double holds exactly.
inline float __fadd_rd(float a, float b) {
  const double sum = static_cast<double>(a) + static_cast<double>(b);
  const auto rounded = static_cast<float>(sum);
  return static_cast<double>(rounded) > sum ? std::nextafterf(rounded, -INFINITY) : rounded;
}
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

#define MODEL_FORENSICS_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
  (static_cast<void>(stream),                                                  \
   cuda_emulation::launch(blocks, static_cast<unsigned>(threads), shared, [=] { kernel(__VA_ARGS__); }))
#define MODEL_FORENSICS_SHARED(name) unsigned char* const name = cuda_emulation::block.shared.data()
