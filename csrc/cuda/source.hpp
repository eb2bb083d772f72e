// Where symbols come from: they are there already, or they are made from float32 values on the way.
//
// A source has Channels, what a thread knows about its kVector channels, whose near() gives a symbol and says whether it
// is certain; and exact(), for the others.
#pragma once

#include "device.hpp"
#include "grid.hpp"

namespace model_forensics::cuda {

// Nothing to know about channels, and no symbol in doubt.
template <typename Source>
struct NoChannels {
  __device__ void prepare(const Source&, std::int64_t, int, int) {}
  __device__ __forceinline__ bool near(const Source& source, typename Source::Value value, int,
                                       unsigned& symbol) const {
    symbol = source.symbol(value);
    return true;
  }
};

// uint8 symbols. One outside the alphabet sets *outside and counts as the last symbol, so that no table is left.
struct SymbolSource {
  using Value = std::uint8_t;
  template <int kVector>
  using Channels = NoChannels<SymbolSource>;
  const std::uint8_t* values;
  int alphabet;
  int* outside;

  __device__ __forceinline__ unsigned symbol(std::uint8_t value) const {
    if (value < alphabet) return value;
    atomicOr(outside, 1);
    return static_cast<unsigned>(alphabet - 1);
  }
  __device__ unsigned exact(std::uint8_t value, std::int64_t) const { return symbol(value); }
};

// Bits of a float32: its sign, or its exponent field.
struct FieldSource {
  using Value = float;
  template <int kVector>
  using Channels = NoChannels<FieldSource>;
  const float* values;
  int shift;
  unsigned mask;

  __device__ __forceinline__ unsigned symbol(float value) const { return (__float_as_uint(value) >> shift) & mask; }
  __device__ unsigned exact(float value, std::int64_t) const { return symbol(value); }
};

// Levels on a grid per channel.
struct GridSource {
  using Value = float;
  const float* values;
  const float* low;   // [all channels]
  const float* step;  // [all channels]
  int levels;
  bool logarithmic;

  template <int kVector>
  struct Channels {
    ChannelGrid grids[kVector];

    // Item j is channel `own` counted from `first`; any existing one where the thread has none.
    __device__ void prepare(const GridSource& source, std::int64_t first, int own, int j) {
      grids[j] = channel_grid(source.low[first + own], source.step[first + own]);
    }
    __device__ __forceinline__ bool near(const GridSource& source, float value, int j, unsigned& symbol) const {
      return near_level(value, grids[j], static_cast<float>(source.levels) - 0.5F, source.logarithmic, symbol);
    }
  };

  __device__ unsigned exact(float value, std::int64_t channel) const {
    return exact_level(value, low[channel], step[channel], levels, logarithmic);
  }
};

}  // namespace model_forensics::cuda
