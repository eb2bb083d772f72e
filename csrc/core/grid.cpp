#include "grid.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "checks.hpp"
#include "isa.hpp"
#include "log2.hpp"
#include "x86.hpp"

namespace model_forensics {

namespace {

std::uint8_t level(double position, std::int64_t levels) {
  const double last = static_cast<double>(levels - 1);
  return static_cast<std::uint8_t>(std::min(std::max(std::floor(position), 0.0), last));
}

// The fast path, and why it gives the symbols of the definition.
//
// Let P = (y + centre - low) / step be the exact real position of a value, with y = x - low and centre = low on a
// uniform grid, y = log2|x| - centre on a logarithmic one, and u = 2^-24. In float32:
//   logarithmic: the bits of |x| read as an integer, less centre + 127 in the exponent field, times 2^-23, are
//     log2|x| - centre - excess(m), where excess(m) = log2 m - (m - 1) depends on the mantissa only (denormals: below).
//     The conversion to float32 is off by u|y|, the polynomial by at most e (kExcessError or kSixteenthsError), their
//     sum by u|y|: |y' - y| <= e + 2u(|y| + 1).
//   uniform: |y' - y| <= u|y|.
//   inverse = 1/step, offset = (centre - low)/step + E - 1/2 are rounded from float64: off by u each, relatively.
//   position = y' * inverse + offset, with two roundings or one: off by u|y|/step and u|P + E| more.
// With |y|/step <= |P| + |offset| + 1 the sum of all is below
//   (e + 2u)/step [logarithmic only] + 5u(|P| + |offset| + 1) + 3uE.
// `margin` is that with 8u for 5u and |P| <= levels: what is left over exceeds the error of the definition itself
// (2^-44/step for the logarithm, 2^-51 |P| for the quotient) and the underflow of products (2^-149). So for 0 <= P <=
// levels position + 1/2 lies strictly between P and P + 2E with E = margin, and if its fraction is 2E or more, its
// floor is the symbol. Otherwise the value is near a border and the definition decides.
// The floor of position + 1/2 is taken by rounding `position` to the nearest integer; the fraction is then 1/2 more
// than position - integer, and near if that is below `near` = 2E - 1/2. On a tie the integer below may come out:
// position + 1/2 is then a border, P lies below it, and the symbol is right.
// For P outside of 0 to levels, by d, the error grows by 5ud < d: the position is still outside, at most 2E inside. The
// clamp gives the outermost symbol, or the definition decides.
// Zero and denormals: their bits read as above give less than log2 of the least normal number. That is the symbol 0, as
// their true logarithm is, if low + step > -125; P is then below 1 - 1/step, and a position in level 1 is near.
// Nonfinite values, and channels for which this does not hold, always take the definition (near = 2).
constexpr double kUnit = 1.0 / (1 << 24);
constexpr double kLeastStep = 0x1p-100;  // so that `inverse` is a normal number
constexpr double kMostStep = 0x1p100;
constexpr std::int32_t kNonfinite = 0x7F800000;
constexpr std::int32_t kMagnitude = 0x7FFFFFFF;
constexpr std::int32_t kMantissa = 0x007FFFFF;
constexpr std::int32_t kOne = 0x3F800000;
constexpr float kPerBit = 0x1p-23F;
constexpr float kRound = 0x1.8p23F;  // added to a small number, leaves its nearest integer in the low bits

// The polynomial of degree 5 with the least largest error.
constexpr std::array<float, 6> kExcess{-1.800364F,  4.091711F,   -3.550793F,
                                       1.6311488F, -0.4165637F, 0.04487361F};

// For wide registers: a quadratic for each sixteenth, which a permutation looks up (constant, linear, square).
constexpr std::array<float, 16> kConstant{
    -1.120394F,   -1.0354223F,  -0.9551822F,  -0.87917405F, -0.80697346F, -0.7382168F,  -0.6725903F,  -0.60982114F,
    -0.54967076F, -0.4919293F,  -0.43641105F, -0.38295117F, -0.33140236F, -0.28163266F, -0.23352334F, -0.18696713F};
constexpr std::array<float, 16> kLinear{
    1.7990788F,  1.6390136F, 1.4962704F,  1.3681809F, 1.2525982F, 1.1477753F, 1.0522764F,  0.9649101F,
    0.88467985F, 0.8107454F, 0.74239373F, 0.6790153F, 0.6200863F, 0.5651541F, 0.51382524F, 0.46575654F};
constexpr std::array<float, 16> kSquare{
    -0.67868143F, -0.60329545F, -0.5398081F, -0.4858406F,  -0.43958038F, -0.39962664F, -0.36488292F, -0.33448118F,
    -0.30772686F, -0.284059F,   -0.2630204F, -0.24423555F, -0.22739366F, -0.21223572F, -0.19854447F, -0.1861366F};
constexpr int kSixteenths = 19;  // the shift that leaves the number of the sixteenth

MODEL_FORENSICS_INLINE float excess(float m) {
  float sum = kExcess[5];
  sum = sum * m + kExcess[4];
  sum = sum * m + kExcess[3];
  sum = sum * m + kExcess[2];
  sum = sum * m + kExcess[1];
  return sum * m + kExcess[0];
}

struct Line {
  float inverse;
  float offset;
  float near;
  std::int32_t centre;
};

constexpr Line kDefinitionOnly{0.0F, 0.0F, 2.0F, 0};

Line line(Scale scale, double low, double step, double levels, double excess_error) {
  if (!(step >= kLeastStep && step <= kMostStep)) return kDefinitionOnly;
  const bool logarithmic = scale == Scale::logarithmic;
  if (logarithmic && !(low + step > -125.0)) return kDefinitionOnly;
  const double centre = logarithmic ? std::min(std::max(std::rint(low + 0.5 * step * levels), -126.0), 127.0) : low;
  const double shift = (centre - low) / step;
  double margin = 8.0 * kUnit * (levels + std::fabs(shift) + 1.0);
  if (logarithmic) margin += (excess_error + 2.0 * kUnit) / step;
  if (!(margin < 0.25)) return kDefinitionOnly;
  return {static_cast<float>(1.0 / step), static_cast<float>(shift + margin - 0.5),
          static_cast<float>(2.0 * margin + 2.0 * kUnit - 0.5),
          logarithmic ? (static_cast<std::int32_t>(centre) + 127) * (1 << 23) : 0};
}

// One row, written so that compilers vectorise it; `near` gets 1 where the definition must decide. True if any is.
MODEL_FORENSICS_INLINE bool approximate_row(const float* values, std::int64_t channels, const Strip& strip,
                                            bool logarithmic, std::uint8_t* symbols, std::uint8_t* near) {
  const auto last = static_cast<float>(strip.levels - 1);
  // Copies: a store of bytes may otherwise change what the strip points to.
  const float* const low = strip.low;
  const float* const inverse = strip.inverse.data();
  const float* const offset = strip.offset.data();
  const float* const border = strip.near.data();
  const std::int32_t* const centre = strip.centre.data();
  std::uint8_t any = 0;
  for (std::int64_t c = 0; c < channels; ++c) {
    const std::int32_t bits = std::bit_cast<std::int32_t>(values[c]) & kMagnitude;
    float y = values[c];
    if (logarithmic) {
      const float mantissa = std::bit_cast<float>((bits & kMantissa) | kOne);
      y = static_cast<float>(bits - centre[c]) * kPerBit + excess(mantissa);
    } else {
      y = y - low[c];
    }
    float position = y * inverse[c] + offset[c];
    position = position > 0.0F ? position : 0.0F;  // NaN gives 0
    position = position < last ? position : last;
    const float rounded = position + kRound;
    const float above_middle = position - (rounded - kRound);
    const auto flag = static_cast<std::uint8_t>((above_middle < border[c] ? 1 : 0) | (bits >= kNonfinite ? 1 : 0));
    symbols[c] = static_cast<std::uint8_t>(std::bit_cast<std::int32_t>(rounded));
    near[c] = flag;
    any = static_cast<std::uint8_t>(any | flag);
  }
  return any != 0;
}

void decide(const float* values, std::int64_t channels, const Strip& strip, const std::uint8_t* near,
            std::uint8_t* symbols) {
  for (std::int64_t c = 0; c < channels; ++c) {
    if (near[c] != 0) symbols[c] = exact_symbol(values[c], strip.scale, strip.low[c], strip.step[c], strip.levels);
  }
}

MODEL_FORENSICS_INLINE void grid_rows(const float* values, std::int64_t value_stride, std::int64_t rows,
                                      const Strip& strip, std::uint8_t* symbols, std::int64_t symbol_stride) {
  std::array<std::uint8_t, kTileChannels> near;
  for (std::int64_t row = 0; row < rows; ++row, values += value_stride, symbols += symbol_stride) {
    const bool any = strip.scale == Scale::logarithmic
                         ? approximate_row(values, strip.channels, strip, true, symbols, near.data())
                         : approximate_row(values, strip.channels, strip, false, symbols, near.data());
    if (any) decide(values, strip.channels, strip, near.data(), symbols);
  }
}

// The bit planes need no grid.
MODEL_FORENSICS_INLINE void plane_rows(const float* values, std::int64_t value_stride, std::int64_t rows,
                                       const Strip& strip, std::uint8_t* symbols, std::int64_t symbol_stride) {
  const int shift = strip.scale == Scale::sign ? 31 : 23;
  for (std::int64_t row = 0; row < rows; ++row, values += value_stride, symbols += symbol_stride) {
    for (std::int64_t c = 0; c < strip.channels; ++c) {
      symbols[c] = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(values[c]) >> shift);
    }
  }
}

#ifdef MODEL_FORENSICS_X86

__attribute__((target("avx2,fma"))) void grid_rows_avx2(const float* values, std::int64_t value_stride,
                                                             std::int64_t rows, const Strip& strip,
                                                             std::uint8_t* symbols, std::int64_t symbol_stride) {
  grid_rows(values, value_stride, rows, strip, symbols, symbol_stride);
}

__attribute__((target("avx2,fma"))) void plane_rows_avx2(const float* values, std::int64_t value_stride,
                                                              std::int64_t rows, const Strip& strip,
                                                              std::uint8_t* symbols, std::int64_t symbol_stride) {
  plane_rows(values, value_stride, rows, strip, symbols, symbol_stride);
}

// The steps below take several rows of 16 values through each instruction before the next: one row's chain of
// dependent instructions is so long that the processor would not see enough of the others.

// log2|x| - centre.
template <int rows>
MODEL_FORENSICS_INLINE MODEL_FORENSICS_AVX512 void log2_rows(const __m512* x, __m512i centre, __m512* y) {
  __m512i bits[rows];
  __m512 m[rows];
  for (int r = 0; r < rows; ++r) {
    bits[r] = _mm512_and_si512(_mm512_castps_si512(x[r]), _mm512_set1_epi32(kMagnitude));
    m[r] = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(  // (bits & mantissa) | one
        bits[r], _mm512_set1_epi32(kMantissa), _mm512_set1_epi32(kOne), 0xEA));
  }
  const __m512 constant = _mm512_loadu_ps(kConstant.data());
  const __m512 linear = _mm512_loadu_ps(kLinear.data());
  const __m512 square = _mm512_loadu_ps(kSquare.data());
  for (int r = 0; r < rows; ++r) {
    const __m512i sixteenth = _mm512_srli_epi32(bits[r], kSixteenths);
    y[r] = _mm512_fmadd_ps(_mm512_permutexvar_ps(sixteenth, square), m[r], _mm512_permutexvar_ps(sixteenth, linear));
    y[r] = _mm512_fmadd_ps(y[r], m[r], _mm512_permutexvar_ps(sixteenth, constant));
  }
  for (int r = 0; r < rows; ++r) {
    y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(bits[r], centre)), _mm512_set1_ps(kPerBit), y[r]);
  }
}

// Symbols in the low bytes, and how far each position is above the middle of its level.
template <bool logarithmic, int rows>
MODEL_FORENSICS_INLINE MODEL_FORENSICS_AVX512 void place_rows(const __m512* x, const Strip& strip, std::size_t c,
                                                              __mmask16 wanted, __m512i* symbols,
                                                              __m512* above_middle) {
  __m512 y[rows];
  if constexpr (logarithmic) {
    log2_rows<rows>(x, _mm512_load_si512(strip.centre.data() + c), y);
  } else {
    const __m512 low = _mm512_maskz_loadu_ps(wanted, strip.low + c);
    for (int r = 0; r < rows; ++r) y[r] = _mm512_sub_ps(x[r], low);
  }
  const __m512 inverse = _mm512_load_ps(strip.inverse.data() + c);
  const __m512 offset = _mm512_load_ps(strip.offset.data() + c);
  const __m512 round = _mm512_set1_ps(kRound);
  const __m512i first = _mm512_castps_si512(round);
  const __m512i last = _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(strip.levels - 1)));
  for (int r = 0; r < rows; ++r) y[r] = _mm512_fmadd_ps(y[r], inverse, offset);
  for (int r = 0; r < rows; ++r) {
    const __m512 rounded = _mm512_add_ps(y[r], round);
    above_middle[r] = _mm512_sub_ps(y[r], _mm512_sub_ps(rounded, round));
    // As integers these floats are in order, below zero apart; clamped only now, on ports that have less to do.
    symbols[r] = _mm512_min_epi32(_mm512_max_epi32(_mm512_castps_si512(rounded), first), last);
  }
}

// The lanes that the definition must decide, from the largest magnitude (as bits) and the lowest place in a level.
MODEL_FORENSICS_INLINE MODEL_FORENSICS_AVX512 __mmask16 undecided(__m512i largest, __m512 lowest, __m512 near) {
  const __mmask16 close = _mm512_cmp_ps_mask(lowest, near, _CMP_LT_OQ);
  return static_cast<__mmask16>(close | _mm512_cmpge_epi32_mask(largest, _mm512_set1_epi32(kNonfinite)));
}

// The lower one, or the second if the first is NaN: a finite value so large that its position overflows needs no
// decision. Starting from -near, lanes whose near is 2 come out undecided whatever their values are.
MODEL_FORENSICS_INLINE MODEL_FORENSICS_AVX512 __m512 lower(__m512 above_middle, __m512 lowest) {
  return _mm512_min_ps(above_middle, lowest);
}

// Ahead in the same columns: rows may be pages apart, where the processor does not look by itself. Past the end of the
// data it does nothing.
MODEL_FORENSICS_INLINE void prefetch(const float* values, std::int64_t ahead) {
  const auto address = reinterpret_cast<std::uintptr_t>(values) + static_cast<std::uintptr_t>(ahead) * sizeof(float);
  _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0);
}

void decide_lanes(unsigned lanes, const float* values, const Strip& strip, std::size_t c, std::uint8_t* symbols) {
  for (; lanes != 0; lanes &= lanes - 1) {
    const std::size_t i = c + static_cast<std::size_t>(std::countr_zero(lanes));
    symbols[i] = exact_symbol(values[i], strip.scale, strip.low[i], strip.step[i], strip.levels);
  }
}

// At most 16 channels of one row.
template <bool logarithmic>
__attribute__((noinline)) MODEL_FORENSICS_AVX512 void part_of_row(const float* values, const Strip& strip,
                                                                  std::int64_t c, std::uint8_t* symbols) {
  const auto i = static_cast<std::size_t>(c);
  const auto wanted = static_cast<__mmask16>((1U << std::min<std::int64_t>(16, strip.channels - c)) - 1);
  const __m512 x = _mm512_maskz_loadu_ps(wanted, values + c);
  __m512i found;
  __m512 above_middle;
  place_rows<logarithmic, 1>(&x, strip, i, wanted, &found, &above_middle);
  _mm_mask_storeu_epi8(symbols + c, wanted, _mm512_cvtepi32_epi8(found));
  const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(kMagnitude));
  const __m512 near = _mm512_load_ps(strip.near.data() + i);
  const __m512 lowest = lower(above_middle, _mm512_sub_ps(_mm512_setzero_ps(), near));
  decide_lanes(wanted & undecided(magnitude, lowest, near), values, strip, i, symbols);
}

constexpr int kRows = 4;   // share the loads of the grid, and one branch
constexpr int kAhead = 8;  // rows from a value to the one that is fetched meanwhile

template <bool logarithmic>
MODEL_FORENSICS_INLINE MODEL_FORENSICS_AVX512 void whole_rows(const float* values, std::int64_t value_stride,
                                                              const Strip& strip, std::int64_t c,
                                                              std::uint8_t* symbols, std::int64_t symbol_stride) {
  const auto i = static_cast<std::size_t>(c);
  __m512 x[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = _mm512_loadu_ps(values + r * value_stride + c);
    prefetch(values + c, (r + kAhead) * value_stride);
  }
  __m512i found[kRows];
  __m512 above_middle[kRows];
  place_rows<logarithmic, kRows>(x, strip, i, 0xFFFF, found, above_middle);
  const __m512 near = _mm512_load_ps(strip.near.data() + i);
  __m512 lowest = _mm512_sub_ps(_mm512_setzero_ps(), near);
  const __m512i magnitude = _mm512_set1_epi32(kMagnitude);
  __m512i largest = _mm512_setzero_si512();
  for (int r = 0; r < kRows; ++r) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + r * symbol_stride + c), _mm512_cvtepi32_epi8(found[r]));
    lowest = lower(above_middle[r], lowest);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(x[r]), magnitude));
  }
  if (undecided(largest, lowest, near) == 0) [[likely]] return;
  for (int r = 0; r < kRows; ++r) {
    part_of_row<logarithmic>(values + r * value_stride, strip, c, symbols + r * symbol_stride);
  }
}

template <bool logarithmic>
MODEL_FORENSICS_AVX512 void grid_rows_avx512(const float* values, std::int64_t value_stride, std::int64_t rows,
                                             const Strip& strip, std::uint8_t* symbols, std::int64_t symbol_stride) {
  const std::int64_t whole = strip.channels / 16 * 16;
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    const float* value = values + row * value_stride;
    std::uint8_t* symbol = symbols + row * symbol_stride;
    for (std::int64_t c = 0; c < whole; c += 16) {
      whole_rows<logarithmic>(value, value_stride, strip, c, symbol, symbol_stride);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < row ? whole : 0; c < strip.channels; c += 16) {
      part_of_row<logarithmic>(values + r * value_stride, strip, c, symbols + r * symbol_stride);
    }
  }
}

#endif

}  // namespace

float log2_excess(float mantissa) { return excess(mantissa); }

float log2_excess_in_sixteenths(float mantissa) {
  const std::size_t i = std::bit_cast<std::uint32_t>(mantissa) >> kSixteenths & 15U;
  return std::fma(std::fma(kSquare[i], mantissa, kLinear[i]), mantissa, kConstant[i]);
}

std::int64_t Grid::alphabet() const {
  if (scale == Scale::sign) return 2;
  return scale == Scale::exponent ? 256 : levels + 1;
}

void require_grid(const Grid& grid, std::int64_t channels) {
  if (grid.scale == Scale::sign || grid.scale == Scale::exponent) return;
  require(grid.scale == Scale::uniform || grid.scale == Scale::logarithmic, "there is no such scale");
  require(grid.levels >= 1 && grid.levels <= 255, "levels must be from 1 to 255");
  require(length(grid.low) == channels && length(grid.step) == channels, "low and step must be [channels]");
  bool usable = true;
  for (std::size_t c = 0; c < grid.low.size(); ++c) {
    usable = usable && std::isfinite(grid.low[c]) && std::isfinite(grid.step[c]) && grid.step[c] > 0.0F;
  }
  require(usable, "low must be finite, step finite and above 0");
}

double log2_exact_order(double value) { return log2_in_order(value); }

std::uint8_t exact_symbol(float value, Scale scale, float low, float step, std::int64_t levels) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (scale == Scale::sign) return static_cast<std::uint8_t>(bits >> 31);
  if (scale == Scale::exponent) return static_cast<std::uint8_t>(bits >> 23);
  if (!std::isfinite(value)) return static_cast<std::uint8_t>(levels);
  double x = static_cast<double>(value);
  if (scale == Scale::logarithmic) {
    if (value == 0.0F) return 0;
    x = log2_exact_order(std::fabs(x));  // a float32 denormal is a normal float64, so the exponent field is enough
  }
  return level((x - static_cast<double>(low)) / static_cast<double>(step), levels);
}

void prepare(const Grid& grid, std::int64_t first, std::int64_t channels, Strip& strip) {
  strip.isa = isa();
  strip.scale = grid.scale;
  strip.levels = grid.levels;
  strip.channels = channels;
  if (grid.scale == Scale::sign || grid.scale == Scale::exponent) return;
  strip.low = grid.low.data() + first;
  strip.step = grid.step.data() + first;
  const auto levels = static_cast<double>(grid.levels);
  const double excess_error = strip.isa >= Isa::avx512 ? kSixteenthsError : kExcessError;
  const auto padded = static_cast<std::size_t>((channels + 15) / 16 * 16);
  for (std::size_t c = 0; c < padded; ++c) {
    const bool there = c < static_cast<std::size_t>(channels);
    const Line made = there ? line(grid.scale, static_cast<double>(strip.low[c]),
                                   static_cast<double>(strip.step[c]), levels, excess_error)
                            : kDefinitionOnly;
    strip.inverse[c] = made.inverse;
    strip.offset[c] = made.offset;
    strip.near[c] = made.near;
    strip.centre[c] = made.centre;
  }
}

void quantize_rows(const float* values, std::int64_t value_stride, std::int64_t rows, const Strip& strip,
                   std::uint8_t* symbols, std::int64_t symbol_stride) {
  const bool plane = strip.scale == Scale::sign || strip.scale == Scale::exponent;
#ifdef MODEL_FORENSICS_X86
  if (!plane && strip.isa >= Isa::avx512) {
    const auto run = strip.scale == Scale::logarithmic ? &grid_rows_avx512<true> : &grid_rows_avx512<false>;
    return run(values, value_stride, rows, strip, symbols, symbol_stride);
  }
  if (strip.isa >= Isa::avx2) {
    const auto run = plane ? &plane_rows_avx2 : &grid_rows_avx2;
    return run(values, value_stride, rows, strip, symbols, symbol_stride);
  }
#endif
  (plane ? plane_rows : grid_rows)(values, value_stride, rows, strip, symbols, symbol_stride);
}

}  // namespace model_forensics
