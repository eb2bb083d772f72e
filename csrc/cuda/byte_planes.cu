#include "device.hpp"
#include "section.hpp"

namespace model_forensics::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kTile = 16384;  // elements of a block

// Which elements of which chunk a block has.
struct Tile {
  std::int64_t chunk, begin, end, elements;

  __device__ explicit Tile(const Frame& frame) {
    const std::int64_t tiles = (frame.chunk / frame.width + kTile - 1) / kTile;
    const auto block = static_cast<std::int64_t>(blockIdx.x);
    chunk = block / tiles;
    elements = chunk_bytes(frame, chunk) / frame.width;
    begin = smaller(block % tiles * kTile, elements);
    end = smaller(begin + kTile, elements);
  }
};

std::int64_t tiles_of(const Frame& frame) {
  const std::int64_t blocks = frame.chunks() * ((frame.chunk / frame.width + kTile - 1) / kTile);
  require_blocks(blocks);
  return blocks;
}

// The sign moves to the lowest bit, so that the highest byte is the exponent's.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) split_kernel(const std::uint8_t* data, Frame frame, std::uint8_t* planes,
                                                         std::uint32_t* counts) {
  MODEL_FORENSICS_SHARED(memory);
  auto* const table = reinterpret_cast<std::uint32_t*>(memory);
  for (int i = static_cast<int>(threadIdx.x); i < kWidth * kSymbols; i += kThreads) table[i] = 0;
  __syncthreads();
  const Tile tile(frame);
  const std::uint8_t* const from = data + tile.chunk * frame.chunk;
  std::uint8_t* const to = planes + tile.chunk * frame.chunk;
#pragma unroll 4
  for (std::int64_t i = tile.begin + threadIdx.x; i < tile.end; i += kThreads) {
    if constexpr (kWidth == 1) {
      atomicAdd(table + from[i], std::uint32_t{1});
    } else {
      std::uint32_t word = 0;
#pragma unroll
      for (int p = 0; p < kWidth; ++p) word |= static_cast<std::uint32_t>(from[i * kWidth + p]) << (8 * p);
      word = (word << 1) | (word >> (8 * kWidth - 1));
#pragma unroll
      for (int p = 0; p < kWidth; ++p) {
        const std::uint32_t symbol = (word >> (8 * (kWidth - 1 - p))) & 0xFFU;
        to[p * tile.elements + i] = static_cast<std::uint8_t>(symbol);
        atomicAdd(table + p * kSymbols + symbol, std::uint32_t{1});
      }
    }
  }
  __syncthreads();
  std::uint32_t* const own = counts + tile.chunk * kWidth * kSymbols;
  for (int i = static_cast<int>(threadIdx.x); i < kWidth * kSymbols; i += kThreads) {
    if (table[i] != 0) atomicAdd(own + i, table[i]);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) join_kernel(const std::uint8_t* planes, Frame frame, std::uint8_t* data) {
  const Tile tile(frame);
  const std::uint8_t* const from = planes + tile.chunk * frame.chunk;
  std::uint8_t* const to = data + tile.chunk * frame.chunk;
#pragma unroll 4
  for (std::int64_t i = tile.begin + threadIdx.x; i < tile.end; i += kThreads) {
    std::uint32_t word = 0;
#pragma unroll
    for (int p = 0; p < kWidth; ++p) word = (word << 8) | from[p * tile.elements + i];
    word = (word >> 1) | (word << (8 * kWidth - 1));
#pragma unroll
    for (int p = 0; p < kWidth; ++p) to[i * kWidth + p] = static_cast<std::uint8_t>(word >> (8 * p));
  }
}

template <int kWidth>
void launch_split(const std::uint8_t* data, const Frame& frame, std::uint8_t* planes, std::uint32_t* counts,
                  cudaStream_t stream) {
  const auto kernel = split_kernel<kWidth>;
  const std::size_t shared = kWidth * kSymbols * sizeof(std::uint32_t);
  MODEL_FORENSICS_LAUNCH(kernel, tiles_of(frame), kThreads, shared, stream, data, frame, planes, counts);
}

}  // namespace

void split_planes(const std::uint8_t* data, const Frame& frame, std::uint8_t* planes, std::uint32_t* counts,
                  CUstream_st* stream) {
  if (frame.size == 0) return;
  if (frame.width == 1) launch_split<1>(data, frame, planes, counts, stream);
  if (frame.width == 2) launch_split<2>(data, frame, planes, counts, stream);
  if (frame.width == 4) launch_split<4>(data, frame, planes, counts, stream);
  check_launch();
}

void join_planes(const std::uint8_t* planes, const Frame& frame, std::uint8_t* data, CUstream_st* stream) {
  if (frame.size == 0 || frame.width == 1) return;
  const auto kernel = frame.width == 2 ? join_kernel<2> : join_kernel<4>;
  MODEL_FORENSICS_LAUNCH(kernel, tiles_of(frame), kThreads, 0, stream, planes, frame, data);
  check_launch();
}

}  // namespace model_forensics::cuda
