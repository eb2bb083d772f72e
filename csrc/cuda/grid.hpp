// The symbol of a value on a grid: exactly the one of the reference, nearly always by a cheap approximation.
#pragma once

#include <cmath>

#include "device.hpp"

namespace model_forensics::cuda {

// Denormals count as zero, -Inf.
__device__ __forceinline__ float hardware_log2(float value) {
#if defined(__CUDACC__)
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return cuda_emulation::hardware_log2(value);
#endif
}

// log2 of a positive finite double by the fixed sequence of IEEE operations that every backend uses. Built with
// --fmad=false (here) and -ffp-contract=off (emulation): a fused multiply-add would give other bits.
__device__ inline double log2_exact_order(double value) {
  constexpr double kTwoOverLn2 = 2.8853900817779268;
  constexpr double kSqrt2 = 1.4142135623730951;
  constexpr int kTerms = 11;
  const long long bits = __double_as_longlong(value);
  double exponent = static_cast<double>((bits >> 52) - 1023);
  double mantissa = __longlong_as_double((bits & 0x000FFFFFFFFFFFFFLL) | 0x3FF0000000000000LL);
  if (mantissa > kSqrt2) {
    mantissa *= 0.5;
    exponent += 1.0;
  }
  const double ratio = (mantissa - 1.0) / (mantissa + 1.0);
  const double square = ratio * ratio;
  double sum = kTwoOverLn2 / (2 * kTerms - 1);
#pragma unroll
  for (int k = kTerms - 2; k >= 0; --k) sum = sum * square + kTwoOverLn2 / (2 * k + 1);
  return exponent + ratio * sum;
}

// The definition: clip(floor((x - low) / step), 0, levels - 1) in float64, on x or log2|x|.
__device__ inline unsigned exact_level(float value, float low, float step, int levels, bool logarithmic) {
  if ((__float_as_uint(value) & 0x7F800000U) == 0x7F800000U) return static_cast<unsigned>(levels);  // NaN, Inf
  if (logarithmic && value == 0.0F) return 0;
  const double x = logarithmic ? log2_exact_order(fabs(static_cast<double>(value))) : static_cast<double>(value);
  const double position = floor((x - static_cast<double>(low)) / static_cast<double>(step));
  return static_cast<unsigned>(fmin(fmax(position, 0.0), static_cast<double>(levels - 1)));
}

// One channel's grid, prepared so that position = x * scale + offset in float32.
//
// How far that can be from the exact position P, with a = 1/step, b = -low/step, and v = x or log2|x|:
//   v:       on the logarithmic scale the hardware's log2 is off by at most 2^-22 for |x| in [0.5, 2], and by 2 units in
//            the last place, 2^-22 |v|, elsewhere (__log2f in the CUDA C++ programming guide); so the position by
//            (1 + |v|) a 2^-22.
//   scale:   a rounded to float32, 2^-24 a|v|.    offset: b rounded, 2^-24 |b|.
//   fmaf:    one rounding, 2^-24 (a|v| + |b|) and a little.
//   P:       three float64 roundings, below 2^-50 (a|v| + |b|).
// Together below 2^-21.8 (a|v| + |b| + a). `slack` holds a + |b| + 1, and the bound used is 2^-20 (a|v| + slack): more
// than three times that; its constant part, 2^-20, covers denormals (a below 2^-126 is off by at most 2^-150, times
// |v| < 2^128 is 2^-22) and the roundings of the test itself.
struct ChannelGrid {
  float scale = 0.0F, offset = 0.0F, slack = 1.0F;
};

__device__ inline ChannelGrid channel_grid(float low, float step) {
  ChannelGrid grid;
  const double inverse = 1.0 / static_cast<double>(step);
  grid.scale = static_cast<float>(inverse);
  grid.offset = static_cast<float>(-static_cast<double>(low) * inverse);
  grid.slack = grid.scale + fabsf(grid.offset) + 1.0F;
  return grid;
}

// The level, and whether it is certain to be the exact one. The borders below 0 and above the last level do not count,
// so positions are first moved to the middle of the outermost levels; no level is certain with a bound of half a level
// or more. Infinite or NaN bounds (zero and denormals on the logarithmic scale, NaN and Inf values, a scale or offset
// beyond float32) fail the comparison, which says "not certain".
//
// The floor is taken by adding 2^23 and rounding down, which leaves it in the low bits of the mantissa: conversions between
// integers and floats run at an eighth of the speed of additions. What is subtracted for the middle is exact.
template <bool kLogarithmic>
__device__ __forceinline__ bool near_level(float value, const ChannelGrid& grid, float last_middle, unsigned& level) {
  constexpr float kFirst = 0x1p23F;  // from here on floats are integers
  const float v = kLogarithmic ? hardware_log2(fabsf(value)) : value;
  const float position = fminf(fmaxf(fmaf(v, grid.scale, grid.offset), 0.5F), last_middle);
  const float floored = __fadd_rd(position, kFirst);
  level = __float_as_uint(floored) - 0x4B000000U;  // the bits of kFirst
  const float from_middle = fabsf(position - (floored - (kFirst - 0.5F)));
  return fmaf(fmaf(fabsf(v), grid.scale, grid.slack), 0x1p-20F, from_middle) < 0.5F;
}

}  // namespace model_forensics::cuda
