// log2 by a fixed sequence of IEEE operations: the same bits in every backend, and in every instruction set that a loop
// over it is compiled for.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#ifdef __GNUC__
#define MODEL_FORENSICS_INLINE inline __attribute__((always_inline))  // so that it takes on the caller's target
#else
#define MODEL_FORENSICS_INLINE inline
#endif

namespace model_forensics {

inline constexpr int kLog2Terms = 11;  // the twelfth term is below half a unit in the last place

inline constexpr std::array<double, kLog2Terms> kLog2Series = [] {
  constexpr double two_over_ln2 = 2.8853900817779268;  // nearest double of 2 / ln 2
  std::array<double, kLog2Terms> series{};
  for (int k = 0; k < kLog2Terms; ++k) series[static_cast<std::size_t>(k)] = two_over_ln2 / (2 * k + 1);
  return series;
}();

// log2 of a positive finite normal double; a float32 denormal is one.
MODEL_FORENSICS_INLINE double log2_in_order(double value) {
  // Only what vectors of every instruction set have: no branch, no conversion of 64-bit integers, which come after SSE.
  constexpr std::uint64_t one = 0x3FF0000000000000ULL;
  constexpr std::uint64_t sqrt2 = std::bit_cast<std::uint64_t>(1.4142135623730951) - one;
  constexpr double two_52 = 4503599627370496.0;
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t fraction = bits & 0x000FFFFFFFFFFFFFULL;
  const std::uint64_t above = (sqrt2 - fraction) >> 63;  // 1 where the mantissa is above the square root of 2
  const double mantissa = std::bit_cast<double>((fraction | one) - (above << 52));  // from sqrt(1/2) to sqrt(2)
  const double exponent = std::bit_cast<double>(((bits >> 52) + above) | 0x4330000000000000ULL) - (two_52 + 1023.0);
  const double ratio = (mantissa - 1.0) / (mantissa + 1.0);
  const double square = ratio * ratio;
  double sum = kLog2Series[kLog2Terms - 1];
  for (int k = kLog2Terms - 2; k >= 0; --k) sum = sum * square + kLog2Series[static_cast<std::size_t>(k)];
  return exponent + ratio * sum;
}

}  // namespace model_forensics
