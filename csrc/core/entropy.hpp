// Shannon entropy over windows of symbols.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything. Outputs may hold
// anything on entry.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// Shannon entropy of windows, in bits per symbol.
//
// symbols: [n], each below `alphabet` (at most 256). This is checked on the way, without a pass of its own: when
//          std::invalid_argument says that a symbol is outside the alphabet, `bits` holds anything.
// offsets: [rows + 1], non-decreasing, from 0 to n; a window never crosses a row.
// cost:    [window + 1], cost[c] = round(c * log2(c) * 2^32), cost[0] = 0. Integers, so that sums are exact in any
//          order and every backend gives the same bits.
// bits:    [windows of all rows], concatenated.
//
// Runs on several threads (parallel.hpp). Windows of at most 256 symbols with a stride of at least 16 take a fast path on
// AVX-512 machines since Ice Lake and Zen 4; an alphabet of at most 16 has one everywhere, if the window is at most 256,
// the stride is not above it, and both are multiples of 16.
void entropy_windows(std::span<const std::uint8_t> symbols, std::span<const std::int64_t> offsets,
                     std::int64_t window, std::int64_t stride, std::int64_t alphabet,
                     std::span<const std::int64_t> cost, std::span<double> bits);

// Windows that fit into a row of `length` symbols.
std::int64_t count_windows(std::int64_t length, std::int64_t window, std::int64_t stride);

}  // namespace model_forensics
