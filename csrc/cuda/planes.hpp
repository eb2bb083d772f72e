// Symbols of values on a grid, and how often each occurs, on the GPU. Same bits as csrc/core.
//
// All pointers are to device memory. Launches are asynchronous on `stream`; what a launch reports at once is thrown.
#pragma once

#include <cstdint>

#include "sites.hpp"

struct CUstream_st;

namespace model_forensics::cuda {

enum class Scale : int { symbols, uniform, log, sign, exponent };

// Where symbols come from. `values` is uint8 for Scale::symbols (each below `alphabet`, else *outside becomes 1 and the
// result means nothing), float32 for the others. `low` and `step` are [all channels], for uniform and log only.
struct Input {
  Scale scale = Scale::symbols;
  const void* values = nullptr;
  const float* low = nullptr;
  const float* step = nullptr;
  int levels = 0;
  int alphabet = 0;
  int* outside = nullptr;
};

// A plan on the device.
struct DevicePlan {
  const Site* sites = nullptr;  // [count + 1]
  std::int64_t count = 0;
  std::int64_t tiles = 0;  // sites[count].tile
  std::int64_t tile_channels = 0, tile_tokens = 0;
};

// -> symbols, of the shape of the values. The plan's tiles are kWideTile channels wide.
void quantize(const Input& input, const DevicePlan& plan, std::uint8_t* symbols, CUstream_st* stream);

// Adds to counts [all channels, alphabet]. The plan's tiles are tile_channels(alphabet) wide.
void histogram(const Input& input, const DevicePlan& plan, std::int64_t* counts, CUstream_st* stream);

}  // namespace model_forensics::cuda
