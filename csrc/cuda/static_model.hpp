// The static model, made by a warp: lane l has the symbols from 8 * l on.
#pragma once

#include "section.hpp"

namespace model_forensics::cuda {

// floor(256 * log2(value)) or one less, by squaring: integers only.
__device__ inline std::int64_t log2_in_256ths(std::uint32_t value) {
  int whole = 0;
  while (value >> whole > 1) ++whole;
  std::uint64_t mantissa = (std::uint64_t{value} << 31) >> whole;
  std::int64_t result = whole;
  for (int bit = 0; bit < 8; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    result <<= 1;
    if (mantissa >> 32 != 0) {
      mantissa >>= 1;
      ++result;
    }
  }
  return result;
}

// Shares of 2^14 by largest remainders, ties to the smaller symbol.
// A symbol is given at most one: its remainder is below n, and the positive ones are more than what is to be given.
__device__ inline void static_frequencies(const std::uint32_t (&counts)[kOwn], std::int64_t n, std::int64_t* remainders,
                                          std::uint32_t (&frequencies)[kOwn]) {
  const int first = static_cast<int>(threadIdx.x) * kOwn;
  std::int64_t shared_out = 0;
  for (int k = 0; k < kOwn; ++k) {
    const std::int64_t scaled = static_cast<std::int64_t>(counts[k]) << kStaticBits;
    std::int64_t share = scaled / n;
    if (share == 0 && counts[k] > 0) share = 1;
    frequencies[k] = static_cast<std::uint32_t>(share);
    remainders[first + k] = scaled - share * n;
    shared_out += share;
  }
  __syncwarp();
  std::int64_t left = (std::int64_t{1} << kStaticBits) - warp_sum(shared_out);
  if (left > 0) {
    for (int k = 0; k < kOwn; ++k) {
      const int own = first + k;
      int before = 0;
      for (int s = 0; s < kSymbols; ++s) {
        const bool larger = remainders[s] > remainders[own] || (remainders[s] == remainders[own] && s < own);
        before += larger ? 1 : 0;
      }
      if (before < left) ++frequencies[k];
    }
  }
  for (; left < 0; ++left) {  // one from the largest, the smallest symbol of them
    unsigned best = 0;
    for (int k = 0; k < kOwn; ++k) {
      const unsigned key = frequencies[k] << 8 | static_cast<unsigned>(kSymbols - 1 - first - k);
      best = key > best ? key : best;
    }
    const int symbol = kSymbols - 1 - static_cast<int>(warp_max(best) & 0xFFU);
    for (int k = 0; k < kOwn; ++k) {
      if (first + k == symbol) --frequencies[k];
    }
  }
}

// log2 of the number of lanes, from an estimate of the coded bytes, as csrc/core/symbol_model.cpp makes it.
__device__ inline int lanes_log2(const std::uint32_t (&counts)[kOwn], const std::uint32_t (&frequencies)[kOwn], int most) {
  std::int64_t bits = 0;
  for (int k = 0; k < kOwn; ++k) {
    if (counts[k] > 0) bits += std::int64_t{counts[k]} * ((kStaticBits << 8) - log2_in_256ths(frequencies[k]));
  }
  bits = warp_sum(bits);
  int lanes = 0;
  while (lanes < most && (bits >> (24 + lanes)) > 0) ++lanes;
  return lanes;
}

}  // namespace model_forensics::cuda
