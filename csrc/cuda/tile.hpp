// How a block of threads walks over its tile: [tokens, 32 lanes x kVector channels], a warp a token.
#pragma once

#include "device.hpp"
#include "grid.hpp"
#include "planes.hpp"
#include "sites.hpp"
#include "source.hpp"

namespace model_forensics::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / kWarp;
inline constexpr int kRows = 4;  // tokens that a warp has in flight

// The tile of this block.
struct Tile {
  std::int64_t index;  // of the site
  Site site;
  std::int64_t first_token, first_channel;  // within the site
  int tokens, channels;                     // that exist; channels from 1 to 32 * kVector
};

__device__ inline Tile find_tile(const DevicePlan& plan) {
  const auto index = static_cast<std::int64_t>(blockIdx.x);
  std::int64_t low = 0;  // the last site whose first tile is not after `index`; empty sites are passed over
  for (std::int64_t high = plan.count; high - low > 1;) {
    const std::int64_t middle = (low + high) / 2;
    if (plan.sites[middle].tile <= index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  Tile tile;
  tile.index = low;
  tile.site = plan.sites[low];
  const std::int64_t across = (tile.site.channels + plan.tile_channels - 1) / plan.tile_channels;
  const std::int64_t inside = index - tile.site.tile;
  tile.first_channel = inside % across * plan.tile_channels;
  tile.first_token = inside / across * plan.tile_tokens;
  tile.tokens = static_cast<int>(smaller(tile.site.tokens - tile.first_token, plan.tile_tokens));
  tile.channels = static_cast<int>(smaller(tile.site.channels - tile.first_channel, plan.tile_channels));
  return tile;
}

// The block's tile at the beginning of its shared memory: it is looked at too seldom to keep it in registers.
inline constexpr int kTileBytes = 128;
static_assert(sizeof(Tile) <= kTileBytes);

__device__ inline const Tile& shared_tile(unsigned char* memory, const DevicePlan& plan) {
  auto* const tile = reinterpret_cast<Tile*>(memory);
  if (threadIdx.x == 0) *tile = find_tile(plan);
  __syncthreads();
  return *tile;
}

template <typename Value, int kVector>
struct alignas(sizeof(Value) * kVector) Pack {
  Value item[kVector];
};

// Which channels of the tile a lane has. With vector loads neighbours, 4 * lane + j; else 32 * j + lane. Either way item
// j of a lane is kept at slot 32 * j + lane in shared memory, where the lanes of a warp meet no bank twice.
struct Lanes {
  bool vector;

  template <int kVector>
  __device__ __forceinline__ int channel(int lane, int j) const {
    return vector ? lane * kVector + j : j * kWarp + lane;
  }
  template <int kVector>
  __device__ __forceinline__ int slot(int channel) const {
    return vector ? channel % kVector * kWarp + channel / kVector : channel;
  }
};

template <typename Value, int kVector>
__device__ inline Lanes lanes_of(const Tile& tile, const Value* values) {
  const auto address = reinterpret_cast<std::uintptr_t>(values + tile.site.value);
  return {kVector > 1 && tile.site.channels % kVector == 0 && address % (sizeof(Value) * kVector) == 0};
}

// What a thread needs to walk over its channels of a tile.
template <typename Source, int kVector>
struct Walker {
  using Value = typename Source::Value;

  const Tile& tile;
  const Source& source;
  Lanes lanes;
  int lane, warp;
  std::int64_t width;          // values from one token to the next
  const Value* own;            // the thread's first value of the tile's first token
  unsigned exist;              // bit j: item j of the thread is a channel
  typename Source::template Channels<kVector> channels;

  __device__ Walker(const Tile& of, const Source& from)
      : tile(of),
        source(from),
        lanes(lanes_of<Value, kVector>(tile, from.values)),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        warp(static_cast<int>(threadIdx.x) / kWarp),
        width(tile.site.channels),
        own(from.values + tile.site.value + tile.first_token * width + tile.first_channel + channel(0)),
        exist(0) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const bool exists = channel(j) < tile.channels;
      exist |= exists ? 1U << j : 0U;
      channels.prepare(source, first_channel() + (exists ? channel(j) : 0), j);
    }
  }

  // The tile's first channel, counted through all sites.
  __device__ std::int64_t first_channel() const { return tile.site.channel + tile.first_channel; }

  // Of the tile.
  __device__ __forceinline__ int channel(int j) const { return lanes.template channel<kVector>(lane, j); }

  // Rows from `row` on, kWarps tokens apart. Channels that do not exist read as one: nobody looks at their symbol, and one
  // is seldom uncertain.
  template <int kCount>
  __device__ __forceinline__ void load(const Value* row, Pack<Value, kVector> (&rows)[kCount]) const {
    const std::int64_t apart = kWarps * width;
    if (lanes.vector && exist != 0) {
#pragma unroll
      for (int r = 0; r < kCount; ++r) rows[r] = *reinterpret_cast<const Pack<Value, kVector>*>(row + r * apart);
      return;
    }
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) rows[r].item[j] = (exist >> j) & 1U ? row[r * apart + j * kWarp] : Value{1};
    }
  }

  // Calls take(token, symbols[kVector]) for this warp's share of the tokens `begin` to `end` of the tile, all 32 lanes
  // together, those without a channel too. Afterwards, for the few symbols that were wrong, correct(token, j, wrong,
  // right). Correcting costs less than a slow branch at every symbol: registers, and warps of which one lane is slow.
  template <typename Take, typename Correct>
  __device__ __forceinline__ void walk(int begin, int end, Take take, Correct correct) const {
    int token = begin + warp;
    const Value* row = own + token * width;
    for (; token + (kRows - 1) * kWarps < end; token += kWarps * kRows, row += kWarps * kRows * width) {
      step<kRows>(row, token, take, correct);
    }
    for (; token < end; token += kWarps, row += kWarps * width) step<1>(row, token, take, correct);
  }

  template <int kCount, typename Take, typename Correct>
  __device__ __forceinline__ void step(const Value* row, int token, Take take, Correct correct) const {
    Pack<Value, kVector> rows[kCount];
    load<kCount>(row, rows);
    bool certain = true;
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      unsigned symbols[kVector];
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const bool sure = channels.near(source, rows[r].item[j], j, symbols[j]);
        certain = certain && sure;
      }
      take(token + r * kWarps, symbols);
    }
    if (!certain) correct_all<kCount>(rows, row, token, correct);
  }

  // Which values it was is asked again: keeping note of it would cost every value an instruction.
  template <int kCount, typename Correct>
  __device__ __forceinline__ void correct_all(const Pack<Value, kVector> (&rows)[kCount], const Value* row, int token,
                                              Correct correct) const {
    static_assert(kCount * kVector <= 32);
    unsigned uncertain = 0;
#pragma unroll
    for (int i = 0; i < kCount * kVector; ++i) {
      unsigned symbol = 0;
      const int j = i % kVector;
      const bool sure = channels.near(source, rows[i / kVector].item[j], j, symbol);
      if (!sure && ((exist >> j) & 1U) != 0) uncertain |= 1U << i;
    }
    for (; uncertain != 0; uncertain &= uncertain - 1) {
      const int i = __ffs(static_cast<int>(uncertain)) - 1;
      const int r = i / kVector;
      const int j = i % kVector;
      const std::int64_t through_all = first_channel() + channel(j);
      const Value value = row[r * kWarps * width + channel(j) - channel(0)];
      unsigned before = 0;
      source.near_again(value, through_all, before);
      const unsigned right = source.exact(value, through_all);
      if (right != before) correct(token + r * kWarps, j, before, right);
    }
  }
};

}  // namespace model_forensics::cuda
