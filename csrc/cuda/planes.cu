#include "planes.hpp"

#include "device.hpp"
#include "launch.hpp"
#include "tile.hpp"

namespace model_forensics::cuda {

namespace {

template <typename Source>
__global__ void __launch_bounds__(kThreads, Source::kBlocks) quantize_kernel(Source source, DevicePlan plan,
                                                                     std::uint8_t* symbols) {
  constexpr int kVector = kWideTile / kWarp;
  MODEL_FORENSICS_SHARED(memory);
  const Tile& tile = shared_tile(memory, plan);
  const Walker<Source, kVector> walker(tile, source);
  std::uint8_t* const own = symbols + (walker.own - source.values);
  const bool packed = walker.lanes.vector && reinterpret_cast<std::uintptr_t>(own) % kVector == 0;
  const auto take = [&](int token, const unsigned(&found)[kVector]) {
    std::uint8_t* const row = own + token * walker.width;
    if (packed) {
      Pack<std::uint8_t, kVector> pack;
#pragma unroll
      for (int j = 0; j < kVector; ++j) pack.item[j] = static_cast<std::uint8_t>(found[j]);
      if (walker.exist != 0) *reinterpret_cast<Pack<std::uint8_t, kVector>*>(row) = pack;
      return;
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      if ((walker.exist >> j) & 1U) row[walker.channel(j) - walker.channel(0)] = static_cast<std::uint8_t>(found[j]);
    }
  };
  walker.walk(0, tile.tokens, take, [&](int token, int j, unsigned, unsigned right) {
    own[token * walker.width + walker.channel(j) - walker.channel(0)] = static_cast<std::uint8_t>(right);
  });
}

// Counts of the tile in shared memory [alphabet, slots], where neither two lanes of a warp nor, for long, two warps
// meet at one address; then added to the result.
template <typename Source, int kVector>
__global__ void __launch_bounds__(kThreads, Source::kBlocks) histogram_kernel(Source source, DevicePlan plan, int alphabet,
                                                                      std::int64_t* counts) {
  constexpr unsigned kWidth = kVector * kWarp;
  MODEL_FORENSICS_SHARED(memory);
  auto* const table = reinterpret_cast<unsigned*>(memory + kTileBytes);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < alphabet * static_cast<int>(kWidth); i += kThreads) table[i] = 0;
  const Tile& tile = shared_tile(memory, plan);  // waits for all threads
  const Walker<Source, kVector> walker(tile, source);
  unsigned* const own = table + walker.lane;
  const auto take = [&](int, const unsigned(&symbols)[kVector]) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) atomicAdd(own + symbols[j] * kWidth + j * kWarp, 1U);
  };
  walker.walk(0, tile.tokens, take, [&](int, int j, unsigned wrong, unsigned right) {
    atomicAdd(own + wrong * kWidth + j * kWarp, ~0U);  // one less
    atomicAdd(own + right * kWidth + j * kWarp, 1U);
  });
  __syncthreads();
  std::int64_t* const first = counts + walker.first_channel() * alphabet;
  for (int i = thread; i < tile.channels * alphabet; i += kThreads) {
    const int slot = walker.lanes.template slot<kVector>(i / alphabet);
    const unsigned count = table[i % alphabet * static_cast<int>(kWidth) + slot];
    if (count != 0) add(first + i, static_cast<std::int64_t>(count));
  }
}

template <int kVector, typename Source>
void launch_histogram(Source source, const DevicePlan& plan, int alphabet, std::int64_t* counts, cudaStream_t stream) {
  const auto kernel = histogram_kernel<Source, kVector>;
  const std::size_t shared = kTileBytes + sizeof(unsigned) * static_cast<std::size_t>(alphabet) * kVector * kWarp;
  MODEL_FORENSICS_LAUNCH(kernel, plan.tiles, kThreads, shared, stream, source, plan, alphabet, counts);
}

}  // namespace

void quantize(const Input& input, const DevicePlan& plan, std::uint8_t* symbols, CUstream_st* stream) {
  require_tiles(plan, kWideTile);
  if (input.scale == Scale::symbols) throw std::invalid_argument("symbols cannot be quantized");
  if (plan.tiles == 0) return;
  with_source(input, [&](auto source) {
    if constexpr (!std::is_same_v<decltype(source), SymbolSource>) {
      const auto kernel = quantize_kernel<decltype(source)>;
      MODEL_FORENSICS_LAUNCH(kernel, plan.tiles, kThreads, kTileBytes, stream, source, plan, symbols);
    }
  });
  check_launch();
}

void histogram(const Input& input, const DevicePlan& plan, std::int64_t* counts, CUstream_st* stream) {
  require_alphabet(input);
  require_tiles(plan, tile_channels(input.alphabet));
  if (plan.tiles == 0) return;
  with_source(input, [&](auto source) {
    if (plan.tile_channels == kWideTile) {
      launch_histogram<kWideTile / kWarp>(source, plan, input.alphabet, counts, stream);
    } else {
      launch_histogram<kNarrowTile / kWarp>(source, plan, input.alphabet, counts, stream);
    }
  });
  check_launch();
}

}  // namespace model_forensics::cuda
