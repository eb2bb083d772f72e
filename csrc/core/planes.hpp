// Symbols of values on a grid per channel, and how often each occurs.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything.
// Outputs may hold anything on entry.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// symbols [tokens, channels] -> counts [channels, alphabet].
void histogram(std::span<const std::uint8_t> symbols, std::int64_t channels, std::int64_t alphabet,
               std::span<std::int64_t> counts);

// values [tokens, channels] -> symbols: clip(floor((x - low) / step), 0, levels - 1) in float64, on x or on log2|x|.
// Nonfinite values get the symbol `levels`; on the logarithmic grid zero gets 0.
void quantize_uniform(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                      std::int64_t levels, std::span<std::uint8_t> symbols);
void quantize_log(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                  std::int64_t levels, std::span<std::uint8_t> symbols);

// log2 of a positive finite double, by a fixed sequence of IEEE operations: the same bits in every backend.
double log2_exact_order(double value);

}  // namespace model_forensics
