// Where symbols come from: they are there already, or they are made from float32 values on the way.
//
// A source has Channels, what a thread knows about its kVector channels, whose near() gives a symbol and says whether it
// is certain. Where it is not, near_again() and exact() tell what it was and what it should have been. kBlocks of 256 threads should fit on a
// multiprocessor: 64 registers a thread for 4, 80 for 3, as many as the grids take without spilling in the loop.
#pragma once

#include "device.hpp"
#include "grid.hpp"

namespace model_forensics::cuda {

// For sources to which all channels are alike.
template <typename Source>
struct NoChannels {
  __device__ void prepare(const Source&, std::int64_t, int) {}
  __device__ __forceinline__ bool near(const Source& source, typename Source::Value value, int,
                                       unsigned& symbol) const {
    return source.near_again(value, 0, symbol);
  }
};

// uint8 symbols. One outside the alphabet counts as the last symbol, so that no table is left, and sets *outside.
struct SymbolSource {
  using Value = std::uint8_t;
  static constexpr int kBlocks = 4;
  template <int kVector>
  using Channels = NoChannels<SymbolSource>;
  const std::uint8_t* values;
  int alphabet;
  int* outside;

  __device__ __forceinline__ bool near_again(std::uint8_t value, std::int64_t, unsigned& symbol) const {
    const auto last = static_cast<unsigned>(alphabet - 1);
    symbol = value < last ? value : last;
    return value <= last;
  }
  __device__ unsigned exact(std::uint8_t, std::int64_t) const {
    atomicOr(outside, 1);
    return static_cast<unsigned>(alphabet - 1);
  }
};

// Bits of a float32: its sign, or its exponent field.
struct FieldSource {
  using Value = float;
  static constexpr int kBlocks = 4;
  template <int kVector>
  using Channels = NoChannels<FieldSource>;
  const float* values;
  int shift;
  unsigned mask;

  __device__ __forceinline__ bool near_again(float value, std::int64_t, unsigned& symbol) const {
    symbol = (__float_as_uint(value) >> shift) & mask;
    return true;
  }
  __device__ unsigned exact(float, std::int64_t) const { return 0; }  // no symbol is uncertain
};

// Levels on a grid per channel.
template <bool kLogarithmic>
struct GridSource {
  using Value = float;
  static constexpr int kBlocks = 3;
  const float* values;
  const float* low;   // [all channels]
  const float* step;  // [all channels]
  int levels;

  template <int kVector>
  struct Channels {
    ChannelGrid grids[kVector];

    __device__ void prepare(const GridSource& source, std::int64_t channel, int j) {
      grids[j] = channel_grid(source.low[channel], source.step[channel]);
    }
    __device__ __forceinline__ bool near(const GridSource& source, float value, int j, unsigned& symbol) const {
      return near_level<kLogarithmic>(value, grids[j], static_cast<float>(source.levels) - 0.5F, symbol);
    }
  };

  __device__ bool near_again(float value, std::int64_t channel, unsigned& symbol) const {
    const ChannelGrid grid = channel_grid(low[channel], step[channel]);
    return near_level<kLogarithmic>(value, grid, static_cast<float>(levels) - 0.5F, symbol);
  }
  __device__ unsigned exact(float value, std::int64_t channel) const {
    return exact_level(value, low[channel], step[channel], levels, kLogarithmic);
  }
};

}  // namespace model_forensics::cuda
