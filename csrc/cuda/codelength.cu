#include "codelength.hpp"

#include "device.hpp"
#include "launch.hpp"
#include "tile.hpp"

namespace model_forensics::cuda {

namespace {

// Shared memory of a block: its tile, sums of each warp and of the tile, then the costs [alphabet, slots].
template <int kVector>
struct Shared {
  static constexpr int kWidth = kVector * kWarp;
  std::int64_t (*warps)[kWidth];  // [kWarps] in slots
  std::int64_t* totals;           // [kWidth] in channels of the tile
  std::int32_t* cost;

  static constexpr std::size_t bytes(int alphabet) {
    return kTileBytes + sizeof(std::int64_t) * kWidth * (kWarps + 1) + sizeof(std::int32_t) * kWidth * alphabet;
  }
  __device__ explicit Shared(unsigned char* memory)
      : warps(reinterpret_cast<std::int64_t(*)[kWidth]>(memory + kTileBytes)),
        totals(&warps[kWarps][0]),
        cost(reinterpret_cast<std::int32_t*>(totals + kWidth)) {}
};
static_assert(Shared<kWideTile / kWarp>::bytes(64) <= kSharedBytes);
static_assert(Shared<kNarrowTile / kWarp>::bytes(256) <= kSharedBytes);

// Slot by slot, symbol by symbol. Channels that do not exist cost nothing, so that the walk need not know them.
template <int kVector>
__device__ void load_costs(const Tile& tile, Lanes lanes, const Costs& costs, int alphabet, std::int32_t* shared) {
  constexpr int kWidth = kVector * kWarp;
  for (int i = static_cast<int>(threadIdx.x); i < kWidth * alphabet; i += kThreads) {
    const int channel = lanes.template channel<kVector>(i % kWarp, i % kWidth / kWarp);
    std::int32_t cost = 0;
    if (channel < tile.channels) {
      const std::int64_t all = tile.site.channel + tile.first_channel + channel;
      const std::int64_t table = costs.tables == nullptr ? all : costs.tables[all];
      cost = costs.cost[i / kWidth * costs.count + table];
    }
    shared[i] = cost;
  }
}

// A warp's part of a token.
template <int kVector>
__device__ __forceinline__ std::int64_t row_sum(const std::int32_t (&bits)[kVector]) {
  std::int32_t sum = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) sum += bits[j];
  return __reduce_add_sync(kAllLanes, sum);
}

template <int kVector>
__device__ inline std::int64_t wide_row_sum(const std::int32_t (&bits)[kVector]) {
  std::int64_t sum = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) sum += bits[j];
  return warp_sum(sum);
}

// Adds the tile's totals [channels] to `out`, one entry for every `width` channels of the site; a warp an entry.
__device__ inline void add_columns(const Tile& tile, const std::int64_t* totals, std::int64_t width,
                                   std::int64_t* out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t past = tile.first_channel + tile.channels;
  const std::int64_t last = (past - 1) / width;
  for (std::int64_t column = tile.first_channel / width + warp; column <= last; column += kWarps) {
    const std::int64_t begin = column * width - tile.first_channel;  // negative where the entry began before the tile
    const std::int64_t end = smaller(past - column * width, width) + begin;
    std::int64_t sum = 0;
    for (std::int64_t channel = (begin > 0 ? begin : 0) + lane; channel < end; channel += kWarp) sum += totals[channel];
    sum = warp_sum(sum);
    if (lane == 0) add(out + column, sum);
  }
}

// Adds what all warps found between two tokens, which lie in one row of blocks.
template <int kVector>
__device__ void add_sums(const Tile& tile, Lanes lanes, const Shared<kVector>& shared, std::int64_t token,
                         const Sums& sums) {
  const int channel = static_cast<int>(threadIdx.x);
  __syncthreads();
  if (channel < tile.channels) {
    std::int64_t total = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) total += shared.warps[warp][lanes.template slot<kVector>(channel)];
    shared.totals[channel] = total;
    if (sums.channel != nullptr) add(sums.channel + tile.site.channel + tile.first_channel + channel, total);
  }
  __syncthreads();
  if (sums.site != nullptr) add_columns(tile, shared.totals, tile.site.channels, sums.site + tile.index);
  if (sums.block != nullptr) {
    const std::int64_t across = (tile.site.channels + sums.blocks.channels - 1) / sums.blocks.channels;
    add_columns(tile, shared.totals, sums.blocks.channels,
                sums.block + tile.site.block + token / sums.blocks.tokens * across);
  }
}

// How far 32-bit sums go. Costs are small as a rule, and then a thread's sums of its share of a tile fit, and so does the
// sum over a warp's part of a token.
struct Range {
  int tokens;        // that a thread may add up
  bool narrow_rows;  // a warp's part of a token fits
};

Range range_of(std::int64_t largest, int vector) {
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  const std::int64_t tokens = largest == 0 ? kMost : kMost / largest;
  return {static_cast<int>(smaller(tokens, 1 << 20)), tokens >= kWarp * vector};
}

template <typename Source, int kVector, bool kTokens>
__global__ void __launch_bounds__(kThreads, Source::kBlocks) codelength_kernel(Source source, DevicePlan plan, int alphabet,
                                                                       Costs costs, Range range, Sums sums) {
  constexpr unsigned kWidth = kVector * kWarp;
  MODEL_FORENSICS_SHARED(memory);
  const Shared<kVector> shared(memory);
  const Tile& tile = shared_tile(memory, plan);
  const Walker<Source, kVector> walker(tile, source);
  load_costs<kVector>(tile, walker.lanes, costs, alphabet, shared.cost);
  __syncthreads();
  const std::int32_t* const own_costs = shared.cost + walker.lane;
  std::int64_t* const own_sums = &shared.warps[walker.warp][walker.lane];
  std::int64_t* const token_sums = kTokens ? sums.token + tile.site.token + tile.first_token : nullptr;
  for (int begin = 0; begin < tile.tokens;) {
    int end = tile.tokens;
    if (sums.block != nullptr) {  // up to where the next row of blocks begins
      const std::int64_t left = sums.blocks.tokens - (tile.first_token + begin) % sums.blocks.tokens;
      end = begin + static_cast<int>(smaller(left, tile.tokens - begin));
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) own_sums[j * kWarp] = 0;
    for (int from = begin; from < end; from += kWarps * range.tokens) {
      std::int32_t totals[kVector] = {};
      const auto take = [&](int token, const unsigned(&symbols)[kVector]) {
        std::int32_t bits[kVector];
#pragma unroll
        for (int j = 0; j < kVector; ++j) bits[j] = own_costs[symbols[j] * kWidth + j * kWarp];
#pragma unroll
        for (int j = 0; j < kVector; ++j) totals[j] += bits[j];
        if constexpr (kTokens) {
          const std::int64_t row = range.narrow_rows ? row_sum(bits) : wide_row_sum(bits);
          if (walker.lane == 0) add(token_sums + token, row);
        }
      };
      const auto correct = [&](int token, int j, unsigned wrong, unsigned right) {
        const std::int64_t more = std::int64_t{own_costs[right * kWidth + j * kWarp]} -
                                  own_costs[wrong * kWidth + j * kWarp];
        own_sums[j * kWarp] += more;
        if constexpr (kTokens) add(token_sums + token, more);
      };
      walker.walk(from, static_cast<int>(smaller(end, from + std::int64_t{kWarps} * range.tokens)), take, correct);
#pragma unroll
      for (int j = 0; j < kVector; ++j) own_sums[j * kWarp] += totals[j];
    }
    add_sums<kVector>(tile, walker.lanes, shared, tile.first_token + begin, sums);
    begin = end;
  }
}

template <int kVector, typename Source>
void launch(Source source, const DevicePlan& plan, int alphabet, const Costs& costs, const Sums& sums,
            cudaStream_t stream) {
  const auto kernel =
      sums.token == nullptr ? codelength_kernel<Source, kVector, false> : codelength_kernel<Source, kVector, true>;
  MODEL_FORENSICS_LAUNCH(kernel, plan.tiles, kThreads, Shared<kVector>::bytes(alphabet), stream, source, plan, alphabet,
                         costs, range_of(costs.largest, kVector), sums);
}

}  // namespace

void codelength(const Input& input, const DevicePlan& plan, const Costs& costs, const Sums& sums,
                CUstream_st* stream) {
  require_alphabet(input);
  require_tiles(plan, tile_channels(input.alphabet));
  if (sums.block != nullptr && (sums.blocks.tokens < 1 || sums.blocks.channels < 1)) {
    throw std::invalid_argument("a block must hold at least one token and one channel");
  }
  if (plan.tiles == 0) return;
  with_source(input, [&](auto source) {
    if (plan.tile_channels == kWideTile) {
      launch<kWideTile / kWarp>(source, plan, input.alphabet, costs, sums, stream);
    } else {
      launch<kNarrowTile / kWarp>(source, plan, input.alphabet, costs, sums, stream);
    }
  });
  check_launch();
}

}  // namespace model_forensics::cuda
