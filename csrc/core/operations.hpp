// Numeric operations of compression forensics: spans in, spans out, no Python.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything.
// Outputs may hold anything on entry. Nothing here allocates more than a few kilobytes.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// Shannon entropy of windows, in bits per symbol.
//
// symbols: [n], each below `alphabet` (at most 256).
// offsets: [rows + 1], non-decreasing, from 0 to n; a window never crosses a row.
// cost:    [window + 1], cost[c] = round(c * log2(c) * 2^32), cost[0] = 0. Integers, so that sums are exact in any
//          order and every backend gives the same bits.
// bits:    [windows of all rows], concatenated.
void entropy_windows(std::span<const std::uint8_t> symbols, std::span<const std::int64_t> offsets,
                     std::int64_t window, std::int64_t stride, std::int64_t alphabet,
                     std::span<const std::int64_t> cost, std::span<double> bits);

// Windows that fit into a row of `length` symbols.
std::int64_t count_windows(std::int64_t length, std::int64_t window, std::int64_t stride);

// symbols [tokens, channels] -> counts [channels, alphabet].
void histogram(std::span<const std::uint8_t> symbols, std::int64_t channels, std::int64_t alphabet,
               std::span<std::int64_t> counts);

// values [tokens, channels] -> symbols: clip(floor((x - low) / step), 0, levels - 1) in float64, on x or on log2|x|.
// Nonfinite values get the symbol `levels`; on the logarithmic grid zero gets 0.
void quantize_uniform(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                      std::int64_t levels, std::span<std::uint8_t> symbols);
void quantize_log(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                  std::int64_t levels, std::span<std::uint8_t> symbols);

// symbols [tokens, channels], cost [channels, alphabet] in bits -> sums over tokens [channels] or channels [tokens].
void codelength_per_channel(std::span<const std::uint8_t> symbols, std::span<const float> cost,
                            std::int64_t channels, std::int64_t alphabet, std::span<double> bits);
void codelength_per_token(std::span<const std::uint8_t> symbols, std::span<const float> cost, std::int64_t channels,
                          std::int64_t alphabet, std::span<double> bits);

// log2 of a positive finite double, by a fixed sequence of IEEE operations: the same bits in every backend.
double log2_exact_order(double value);

}  // namespace model_forensics
