// CRC-32C (Castagnoli; RFC 3720, appendix B.4), many threads a chunk. A checksum is linear: that of a slice, times
// x^(8 * bytes behind it) modulo the polynomial, is what the slice contributes to the chunk's.
#include "device.hpp"
#include "section.hpp"

namespace model_forensics::cuda {

namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // reflected
constexpr int kThreads = 256;
constexpr std::int64_t kSlice = 1024;  // bytes of a thread
constexpr int kPowers = 25;            // a chunk has at most 2^24 bytes

// Polynomials modulo the one above; the highest bit is x^0.
__host__ __device__ constexpr std::uint32_t times(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (int bit = 31; bit >= 0; --bit) {
    if ((a >> bit) & 1U) product ^= b;
    b = (b >> 1) ^ ((b & 1U) != 0 ? kPolynomial : 0U);
  }
  return product;
}

struct Powers {
  std::uint32_t of[kPowers];  // x^(8 * 2^k)
};

constexpr Powers kBytePowers = [] {
  Powers powers{};
  powers.of[0] = std::uint32_t{1} << 23;
  for (int k = 1; k < kPowers; ++k) powers.of[k] = times(powers.of[k - 1], powers.of[k - 1]);
  return powers;
}();

struct alignas(16) Quad {
  std::uint32_t word[4];
};

__device__ __forceinline__ std::uint32_t step(const std::uint32_t* table, std::uint32_t state, std::uint32_t byte) {
  return (state >> 8) ^ table[(state ^ byte) & 0xFFU];
}

__device__ inline std::uint32_t slice_state(const std::uint32_t* table, std::uint32_t state, const std::uint8_t* data,
                                            std::int64_t size) {
  std::int64_t i = 0;
  if (reinterpret_cast<std::uintptr_t>(data) % sizeof(Quad) == 0) {
    for (; i + 16 <= size; i += 16) {
      const Quad quad = *reinterpret_cast<const Quad*>(data + i);
#pragma unroll
      for (int b = 0; b < 16; ++b) state = step(table, state, quad.word[b / 4] >> (8 * (b % 4)));
    }
  }
  for (; i < size; ++i) state = step(table, state, data[i]);
  return state;
}

__global__ void __launch_bounds__(kThreads) checksum_kernel(const std::uint8_t* data, Frame frame, Powers powers,
                                                            std::uint32_t* checksums) {
  MODEL_FORENSICS_SHARED(memory);
  auto* const table = reinterpret_cast<std::uint32_t*>(memory);
  std::uint32_t entry = threadIdx.x;
  for (int bit = 0; bit < 8; ++bit) entry = (entry >> 1) ^ ((entry & 1U) != 0 ? kPolynomial : 0U);
  table[threadIdx.x] = entry;
  __syncthreads();
  const std::int64_t blocks = (frame.chunk + kThreads * kSlice - 1) / (kThreads * kSlice);
  const std::int64_t chunk = static_cast<std::int64_t>(blockIdx.x) / blocks;
  const std::int64_t size = chunk_bytes(frame, chunk);
  const std::int64_t begin = (static_cast<std::int64_t>(blockIdx.x) % blocks * kThreads + threadIdx.x) * kSlice;
  if (begin >= size) return;
  const std::int64_t end = smaller(begin + kSlice, size);
  const std::uint32_t start = begin == 0 ? 0xFFFFFFFFU : 0U;
  std::uint32_t state = slice_state(table, start, data + chunk * frame.chunk + begin, end - begin);
  for (int k = 0; k < kPowers; ++k) {
    if (((size - end) >> k) & 1) state = times(state, powers.of[k]);
  }
  atomicXor(checksums + chunk, state);
}

}  // namespace

void chunk_checksums(const std::uint8_t* data, const Frame& frame, std::uint32_t* checksums, CUstream_st* stream) {
  if (frame.size == 0) return;
  const std::int64_t blocks = frame.chunks() * ((frame.chunk + kThreads * kSlice - 1) / (kThreads * kSlice));
  require_blocks(blocks);
  MODEL_FORENSICS_LAUNCH(checksum_kernel, blocks, kThreads, kSymbols * sizeof(std::uint32_t), stream, data, frame,
                         kBytePowers, checksums);
  check_launch();
}

}  // namespace model_forensics::cuda
