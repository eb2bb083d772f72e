// Symbols of values on a grid per channel, and how often each occurs.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything.
// Outputs may hold anything on entry.
#pragma once

#include <cstdint>
#include <span>

#include "tiles.hpp"

namespace model_forensics {

// Values of all sites -> their symbols, in the same order.
void quantize(std::span<const float> values, const Grid& grid, const Sites& sites, std::span<std::uint8_t> symbols);

// Input of all sites -> counts [channels of all sites, alphabet].
void histogram(const Input& input, const Sites& sites, std::int64_t alphabet, std::span<std::int64_t> counts);

}  // namespace model_forensics
