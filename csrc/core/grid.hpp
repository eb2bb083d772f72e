// Grids: how a float32 value becomes a symbol.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "isa.hpp"
#include "sites.hpp"

namespace model_forensics {

enum class Scale : int { uniform = 0, logarithmic = 1, sign = 2, exponent = 3 };

struct Grid {
  Scale scale = Scale::uniform;
  std::int64_t levels = 0;       // uniform, logarithmic: 1 to 255
  std::span<const float> low;    // uniform, logarithmic: [channels of all sites]
  std::span<const float> step;

  std::int64_t alphabet() const;
};

// Throws std::invalid_argument unless the grid fits `channels` channels.
void require_grid(const Grid& grid, std::int64_t channels);

// The definition, one value at a time. uniform: clip(floor((x - low) / step), 0, levels - 1) in float64; logarithmic:
// the same on log2|x|, 0 for zero; nonfinite: levels. sign: the sign bit; exponent: the exponent field.
std::uint8_t exact_symbol(float value, Scale scale, float low, float step, std::int64_t levels);

// log2 of a positive finite double, by a fixed sequence of IEEE operations: the same bits in every backend.
double log2_exact_order(double value);

// log2(m) - (m - 1) for 1 <= m < 2 in float32, in the two ways that fast paths use, and what they may be wrong by. The
// check of the core tries all 2^23 m.
float log2_excess(float mantissa);
float log2_excess_in_sixteenths(float mantissa);  // AVX-512
inline constexpr double kExcessError = 1.45e-5;
inline constexpr double kSixteenthsError = 3.6e-6;

// A strip of channels of a grid, made ready for many rows: y * inverse + offset in float32, where y is x - low or
// log2|x| - centre. See grid.cpp for the bound that makes the result exact.
struct Strip {
  Isa isa = Isa::portable;  // what it was made ready for
  Scale scale = Scale::uniform;
  std::int64_t levels = 0;
  std::int64_t channels = 0;
  const float* low = nullptr;
  const float* step = nullptr;
  alignas(64) std::array<float, kTileChannels> inverse;
  alignas(64) std::array<float, kTileChannels> offset;
  alignas(64) std::array<float, kTileChannels> near;
  alignas(64) std::array<std::int32_t, kTileChannels> centre;
};

// first: number of the strip's first channel through all sites; channels: at most kTileChannels.
void prepare(const Grid& grid, std::int64_t first, std::int64_t channels, Strip& strip);

// Rows of strip.channels values -> symbols; strides count items.
void quantize_rows(const float* values, std::int64_t value_stride, std::int64_t rows, const Strip& strip,
                   std::uint8_t* symbols, std::int64_t symbol_stride);

}  // namespace model_forensics
