// The adaptive model: the symbols of a block share frequencies, which a warp makes of the symbols before the block.
// In shared memory. All functions are called by all of the warp, whose lane l makes the symbols from 8 * l on.
#pragma once

#include "section.hpp"

namespace model_forensics::cuda {

struct AdaptiveModel {
  Slice slices[kSymbols];
  std::uint32_t counts[kSymbols];  // the lanes that code add to it

  __device__ void clear() {
    for (int s = static_cast<int>(threadIdx.x); s < kSymbols; s += kWarp) counts[s] = 0;
  }

  // Of the symbols counted, `coded` in all, fewer than 2^24. Shares of 2^20 by Krichevsky and Trofimov (1981), at least 1
  // each; what rounding leaves over goes to the most frequent symbol, the smallest of them.
  __device__ void update(std::int64_t coded) {
    __syncwarp();
    const int first = static_cast<int>(threadIdx.x) * kOwn;
    constexpr std::uint64_t kShared = (std::uint64_t{1} << kAdaptiveBits) - kSymbols;
    const std::uint64_t weight = 2 * static_cast<std::uint64_t>(coded) + kSymbols;
    std::uint32_t frequencies[kOwn];
    std::uint32_t sum = 0;
    unsigned best = 0;
    for (int k = 0; k < kOwn; ++k) {
      const std::uint32_t count = counts[first + k];
      frequencies[k] = static_cast<std::uint32_t>((2 * std::uint64_t{count} + 1) * kShared / weight) + 1;
      sum += frequencies[k];
      const unsigned key = count << 8 | static_cast<unsigned>(kSymbols - 1 - first - k);
      best = key > best ? key : best;
    }
    const int most = kSymbols - 1 - static_cast<int>(warp_max(best) & 0xFFU);
    const auto left = (std::uint32_t{1} << kAdaptiveBits) - static_cast<std::uint32_t>(warp_sum(sum));
    std::uint32_t start = sum_before(sum) + (most < first ? left : 0);
    for (int k = 0; k < kOwn; ++k) {
      if (first + k == most) frequencies[k] += left;
      slices[first + k] = {start, frequencies[k]};
      start += frequencies[k];
    }
    __syncwarp();
  }
};

// Symbols of the block that begins after `coded`: a 32nd of them, in sixteens, so that every block begins with lane 0.
__device__ __forceinline__ std::int64_t adaptive_block(std::int64_t coded) {
  return coded < 1024 ? 16 : coded / 32 / 16 * 16;
}

// Calls body(first, size) for each block of n symbols, with the model that is theirs; it adds them to the counts.
template <typename Body>
__device__ __forceinline__ void each_adaptive_block(AdaptiveModel& model, std::int64_t n, Body body) {
  model.clear();
  for (std::int64_t first = 0; first < n;) {
    const std::int64_t size = smaller(adaptive_block(first), n - first);
    model.update(first);
    body(first, size);
    first += size;
  }
}

}  // namespace model_forensics::cuda
