#include "planes.hpp"

#include "device.hpp"
#include "launch.hpp"
#include "tile.hpp"

namespace model_forensics::cuda {

namespace {

template <typename Source>
__global__ void __launch_bounds__(kThreads, kBlocks) quantize_kernel(Source source, DevicePlan plan, std::uint8_t* symbols) {
  constexpr int kVector = kWideTile / kWarp;
  const Tile tile = find_tile(plan.sites, plan.count, plan.tile_channels, plan.tile_tokens);
  const Lanes lanes = lanes_of<typename Source::Value, kVector>(tile, source.values);
  std::uint8_t* const first = symbols + tile.site.value + tile.first_token * tile.site.channels + tile.first_channel;
  const bool packed = lanes.vector && reinterpret_cast<std::uintptr_t>(symbols + tile.site.value) % kVector == 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  walk<Source, kVector>(tile, source, lanes, 0, tile.tokens,
                        [&](int token, const int (&found)[kVector]) {
    std::uint8_t* row = first + token * tile.site.channels;
    if (packed) {
      Pack<std::uint8_t, kVector> pack;
#pragma unroll
      for (int j = 0; j < kVector; ++j) pack.item[j] = static_cast<std::uint8_t>(found[j]);
      if (lane * kVector < tile.channels) *reinterpret_cast<Pack<std::uint8_t, kVector>*>(row + lane * kVector) = pack;
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const int channel = lanes.template channel<kVector>(lane, j);
        if (channel < tile.channels) row[channel] = static_cast<std::uint8_t>(found[j]);
      }
    }
  });
}

// Counts of the tile in shared memory [alphabet, slots], where neither two lanes of a warp nor, for long, two warps
// meet at one address; then added to the result.
template <typename Source, int kVector>
__global__ void __launch_bounds__(kThreads, kBlocks) histogram_kernel(Source source, DevicePlan plan, int alphabet,
                                                             std::int64_t* counts) {
  constexpr int kWidth = kVector * kWarp;
  MODEL_FORENSICS_SHARED(shared);
  auto* const table = reinterpret_cast<unsigned*>(shared);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < alphabet * kWidth; i += kThreads) table[i] = 0;
  __syncthreads();
  const Tile tile = find_tile(plan.sites, plan.count, plan.tile_channels, plan.tile_tokens);
  const Lanes lanes = lanes_of<typename Source::Value, kVector>(tile, source.values);
  const int lane = thread % kWarp;
  walk<Source, kVector>(tile, source, lanes, 0, tile.tokens,
                        [&](int, const int (&symbols)[kVector]) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) atomicAdd(&table[symbols[j] * kWidth + j * kWarp + lane], 1U);
  });
  __syncthreads();
  std::int64_t* const first = counts + (tile.site.channel + tile.first_channel) * alphabet;
  for (int i = thread; i < tile.channels * alphabet; i += kThreads) {
    const unsigned count = table[i % alphabet * kWidth + lanes.template slot<kVector>(i / alphabet)];
    if (count != 0) add(first + i, static_cast<std::int64_t>(count));
  }
}

template <int kVector, typename Source>
void launch_histogram(Source source, const DevicePlan& plan, int alphabet, std::int64_t* counts, cudaStream_t stream) {
  const auto kernel = histogram_kernel<Source, kVector>;
  const std::size_t shared = sizeof(unsigned) * static_cast<std::size_t>(alphabet) * kVector * kWarp;
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
      MODEL_FORENSICS_LAUNCH(kernel, plan.tiles, kThreads, 0, stream, source, plan, symbols);
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
