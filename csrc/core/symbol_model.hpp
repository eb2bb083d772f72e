// Frequencies of bytes for the range coder, made by integer arithmetic only: every backend makes the same.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "range_coder.hpp"

namespace model_forensics {

inline constexpr int kStaticBits = 14;    // a symbol costs at most 14 bits, so one word leaves at most
inline constexpr int kAdaptiveBits = 20;  // fine enough for symbols that were never seen among millions
inline constexpr std::size_t kSymbols = 256;

using Counts = std::array<std::int64_t, kSymbols>;
using Slices = std::array<Slice, kSymbols>;
using Frequencies = std::array<std::uint32_t, kSymbols>;

Counts count_symbols(std::span<const std::uint8_t> symbols);

// Shares of 2^14, at least 1 for a symbol that occurs and 0 for others: largest remainders, ties to the smaller symbol.
// Some symbol must occur.
Frequencies static_frequencies(const Counts& counts);

// Shares of 2^20 by Krichevsky and Trofimov (1981), (count + 1/2) / (n + 128), at least 1 each; what rounding leaves over
// goes to the most frequent symbol, the smallest of them.
Frequencies adaptive_frequencies(const Counts& counts);

Slices slices_of(const Frequencies& frequencies);

// Symbols until the adaptive model is made anew, when `coded` have been: a 32nd of them, in sixteens, so that every block
// begins with lane 0.
inline std::int64_t adaptive_block(std::int64_t coded) { return coded < 1024 ? 16 : coded / 32 / 16 * 16; }

// What the symbols cost under static frequencies, in 1/256 bits; a little more than the truth.
std::int64_t static_cost(const Counts& counts, const Frequencies& frequencies);

// log2 of the number of lanes for symbols of this cost: a lane takes about 4 bytes, and they stay below 0.1 % of the whole.
int lanes_log2(std::int64_t cost, int most);

}  // namespace model_forensics
