// How a block of threads walks over its tile: [tokens, 32 lanes x kVector channels], a warp a token.
#pragma once

#include "device.hpp"
#include "grid.hpp"
#include "sites.hpp"
#include "source.hpp"

namespace model_forensics::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / kWarp;
inline constexpr int kBlocks = 4;  // of threads that should fit on a multiprocessor: at most 64 registers a thread
inline constexpr int kRows = 2;  // tokens that a warp has in flight; their symbols share one 64-bit register

// The tile of this block.
struct Tile {
  std::int64_t index;  // of the site
  Site site;
  std::int64_t first_token, first_channel;  // within the site
  int tokens, channels;                     // that exist; channels from 1 to 32 * kVector
};

__device__ inline Tile find_tile(const Site* sites, std::int64_t count, std::int64_t tile_channels,
                                 std::int64_t tile_tokens) {
  const auto index = static_cast<std::int64_t>(blockIdx.x);
  std::int64_t low = 0;  // the last site whose first tile is not after `index`; empty sites are passed over
  for (std::int64_t high = count; high - low > 1;) {
    const std::int64_t middle = (low + high) / 2;
    if (sites[middle].tile <= index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  Tile tile;
  tile.index = low;
  tile.site = sites[low];
  const std::int64_t across = (tile.site.channels + tile_channels - 1) / tile_channels;
  const std::int64_t inside = index - tile.site.tile;
  tile.first_channel = inside % across * tile_channels;
  tile.first_token = inside / across * tile_tokens;
  tile.tokens = static_cast<int>(smaller(tile.site.tokens - tile.first_token, tile_tokens));
  tile.channels = static_cast<int>(smaller(tile.site.channels - tile.first_channel, tile_channels));
  return tile;
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

// Channels that do not exist read as zero.
template <typename Value, int kVector>
__device__ __forceinline__ void load_row(const Value* row, Lanes lanes, int lane, int channels,
                                         Pack<Value, kVector>& pack) {
  if (lanes.vector) {
    if (lane * kVector < channels) {
      pack = *reinterpret_cast<const Pack<Value, kVector>*>(row + lane * kVector);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) pack.item[j] = Value{};
    }
  } else {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      pack.item[j] = j * kWarp + lane < channels ? row[j * kWarp + lane] : Value{};
    }
  }
}

// Bit r * kVector + j for each item j of a row that is a channel of the tile.
template <int kVector>
__device__ inline unsigned existing(Lanes lanes, int lane, int channels) {
  unsigned bits = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    if (lanes.template channel<kVector>(lane, j) < channels) bits |= 1U << j;
  }
#pragma unroll
  for (int r = 1; r < kRows; ++r) bits |= bits << kVector;
  return bits;
}

// Calls body(token, symbols[kVector]) for this warp's share of the tokens `begin` to `end` of the tile. All 32 lanes of a
// warp are in each call, those without a channel too.
//
// A symbol that its cheap way leaves in doubt is made again the exact way, after the others and in one place: a loop over
// the few in doubt costs less than the registers and the divergence of a slow branch at every symbol.
template <typename Source, int kVector, typename Body>
__device__ __forceinline__ void walk(const Tile& tile, const Source& source, Lanes lanes, int begin, int end, Body body) {
  using Value = typename Source::Value;
  static_assert(kRows * kVector <= 8, "the symbols of all rows fit into 64 bits");
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t next = kWarps * tile.site.channels;
  const std::int64_t first_channel = tile.site.channel + tile.first_channel;
  const unsigned exist = existing<kVector>(lanes, lane, tile.channels);
  typename Source::template Channels<kVector> channels;
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    channels.prepare(source, first_channel, (exist >> j) & 1U ? lanes.template channel<kVector>(lane, j) : 0, j);
  }
  const Value* row = source.values + tile.site.value + (tile.first_token + begin + warp) * tile.site.channels +
                     tile.first_channel;
  for (int token = begin + warp; token < end; token += kWarps * kRows, row += kRows * next) {
    Pack<Value, kVector> rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (token + r * kWarps < end) load_row(row + r * next, lanes, lane, tile.channels, rows[r]);
    }
    std::uint64_t symbols = 0;
    unsigned doubt = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (token + r * kWarps >= end) break;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        unsigned symbol = 0;
        const int item = r * kVector + j;
        if (!channels.near(source, rows[r].item[j], j, symbol)) doubt |= 1U << item;
        symbols |= static_cast<std::uint64_t>(symbol) << (8 * item);
      }
    }
    for (doubt &= exist; doubt != 0; doubt &= doubt - 1) {
      const int item = __ffs(static_cast<int>(doubt)) - 1;
      const int channel = lanes.template channel<kVector>(lane, item % kVector);
      const unsigned symbol = source.exact(row[item / kVector * next + channel], first_channel + channel);
      symbols &= ~(std::uint64_t{0xFF} << (8 * item));
      symbols |= static_cast<std::uint64_t>(symbol) << (8 * item);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (token + r * kWarps >= end) break;
      int own[kVector];
#pragma unroll
      for (int j = 0; j < kVector; ++j) own[j] = static_cast<int>((symbols >> (8 * (r * kVector + j))) & 0xFF);
      body(token + r * kWarps, own);
    }
  }
}

}  // namespace model_forensics::cuda
