#include "symbol_model.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

namespace model_forensics {

Counts count_symbols(std::span<const std::uint8_t> symbols) {
  // Four tables, so that equal neighbours do not wait for one another.
  std::array<Counts, 4> part{};
  std::size_t i = 0;
  for (; i + 4 <= symbols.size(); i += 4) {
    for (std::size_t k = 0; k < 4; ++k) ++part[k][symbols[i + k]];
  }
  for (; i < symbols.size(); ++i) ++part[0][symbols[i]];
  Counts counts{};
  for (std::size_t s = 0; s < kSymbols; ++s) counts[s] = part[0][s] + part[1][s] + part[2][s] + part[3][s];
  return counts;
}

Frequencies static_frequencies(const Counts& counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  Frequencies shares{};
  std::array<std::int64_t, kSymbols> remainder{};
  std::int64_t left = std::int64_t{1} << kStaticBits;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    if (counts[s] == 0) continue;
    const std::int64_t scaled = counts[s] << kStaticBits;
    const std::int64_t share = std::max<std::int64_t>(scaled / total, 1);
    shares[s] = static_cast<std::uint32_t>(share);
    remainder[s] = scaled - share * total;  // negative for a symbol that was rounded up to 1
    left -= share;
  }
  while (left > 0) {
    const auto best = std::max_element(remainder.begin(), remainder.end()) - remainder.begin();
    ++shares[static_cast<std::size_t>(best)];
    remainder[static_cast<std::size_t>(best)] -= total;
    --left;
  }
  while (left < 0) {
    --*std::max_element(shares.begin(), shares.end());
    ++left;
  }
  return shares;
}

Frequencies adaptive_frequencies(const Counts& counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const std::int64_t shared = (std::int64_t{1} << kAdaptiveBits) - static_cast<std::int64_t>(kSymbols);
  const std::int64_t weight = 2 * total + static_cast<std::int64_t>(kSymbols);
  Frequencies shares{};
  std::int64_t left = shared;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    const std::int64_t share = (2 * counts[s] + 1) * shared / weight;
    shares[s] = static_cast<std::uint32_t>(share + 1);
    left -= share;
  }
  const auto most = std::max_element(counts.begin(), counts.end()) - counts.begin();
  shares[static_cast<std::size_t>(most)] += static_cast<std::uint32_t>(left);
  return shares;
}

Slices slices_of(const Frequencies& frequencies) {
  Slices slices{};
  std::uint32_t start = 0;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    slices[s] = {start, frequencies[s]};
    start += frequencies[s];
  }
  return slices;
}

namespace {

// floor(256 * log2(value)) or one less, by squaring: integers only.
std::int64_t log2_in_256ths(std::uint32_t value) {
  const int whole = static_cast<int>(std::bit_width(value)) - 1;
  std::uint64_t mantissa = (std::uint64_t{value} << 31) >> whole;  // in [2^31, 2^32)
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

}  // namespace

std::int64_t static_cost(const Counts& counts, const Frequencies& frequencies) {
  std::int64_t bits = 0;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    if (counts[s] > 0) bits += counts[s] * ((kStaticBits << 8) - log2_in_256ths(frequencies[s]));
  }
  return bits;
}

int lanes_log2(std::int64_t cost, int most) {
  int lanes = 0;
  while (lanes < most && cost >> (11 + 13 + lanes) > 0) ++lanes;  // 1 below 8 KiB, 2 below 16 KiB, ...
  return lanes;
}

}  // namespace model_forensics
