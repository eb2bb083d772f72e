// Windows of up to 256 symbols with the byte instructions of AVX-512 (Ice Lake, Zen 4 and newer).
#include "entropy_kernels.hpp"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define MF_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx512bitalg,gfni,bmi2")))
#define MF_INLINE MF_TARGET __attribute__((always_inline)) inline

namespace model_forensics {

namespace {

constexpr int kBytes = 5;  // of a saving

// What five vectors of partial sums, one for each byte of a saving, add up to in each 128-bit part: [low, high] pairs
// of 32-bit numbers whose total is low + high * 2^24. 256 savings fit: low < 256 * 2^24.
MF_INLINE __m512i combine(const __m512i* sums) {
  const __m512i low = _mm512_add_epi32(
      sums[0], _mm512_add_epi32(_mm512_slli_epi32(sums[1], 8), _mm512_slli_epi32(sums[2], 16)));
  const __m512i high = _mm512_add_epi32(sums[3], _mm512_slli_epi32(sums[4], 8));
  const __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(low, high), _mm512_unpackhi_epi32(low, high));
  return _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_BADC));
}

// table[count] for all counts, of a table of 256 bytes; `high` marks the counts from 128 on.
MF_INLINE __m512i look_up(const std::uint8_t* table, __m512i counts, __mmask64 high) {
  const __m512i below = _mm512_permutex2var_epi8(_mm512_load_si512(table), counts, _mm512_load_si512(table + 64));
  const __m512i above =
      _mm512_permutex2var_epi8(_mm512_load_si512(table + 128), counts, _mm512_load_si512(table + 192));
  return _mm512_mask_mov_epi8(below, high, above);
}

// ---- any symbols: counts in memory, the sum of savings anew for each window ----

constexpr std::int64_t kSmallestStride = 16;
constexpr std::size_t kStarts = 256 / kSmallestStride + 1;
constexpr std::size_t kCounts = 256;
constexpr std::int64_t kTallies = 2;
constexpr int kVectors = 4;  // 256 counts of one byte

// One walk over symbols. Counts run on, modulo 256; a window's are those at its end minus those at its start.
struct Tally {
  alignas(64) std::uint8_t counts[4 * kCounts];       // four tables, so that equal symbols do not wait for each other
  alignas(64) std::uint8_t starts[kStarts * kCounts];  // counts at the starts of the windows that are not yet complete
  const std::uint8_t* symbols;
  double* bits;
  std::size_t newest;  // of the starts
  std::size_t oldest;
};

struct Step {
  std::int64_t advance;  // symbols to count from the end of one window to the start of the next
  std::int64_t skip;     // symbols to pass over instead
  std::int64_t open;     // starts before the one that precedes the end of a window
  std::int64_t tail;     // symbols from there to the end of the window
};

Step step_of(std::int64_t window, std::int64_t stride) {
  const std::int64_t tail = window % stride;
  if (stride > window) return {0, stride - window, 0, window};
  return {stride - tail, 0, window / stride, tail};
}

// Quarters go to tables of their own: in bytes of float32 the neighbours four bytes on are often equal.
MF_INLINE void count(Tally& tally, std::int64_t symbols) {
  const std::int64_t quarter = symbols / 4;
  const std::uint8_t* from = tally.symbols;
  for (std::int64_t i = 0; i < quarter; ++i) {
    ++tally.counts[from[i]];
    ++tally.counts[kCounts + from[quarter + i]];
    ++tally.counts[2 * kCounts + from[2 * quarter + i]];
    ++tally.counts[3 * kCounts + from[3 * quarter + i]];
  }
  for (std::int64_t i = 4 * quarter; i < symbols; ++i) ++tally.counts[from[i]];
  tally.symbols += symbols;
}

MF_INLINE void read_counts(const Tally& tally, __m512i* counts) {
  for (int v = 0; v < kVectors; ++v) {
    const std::uint8_t* from = tally.counts + 64 * v;
    counts[v] = _mm512_add_epi8(
        _mm512_add_epi8(_mm512_load_si512(from), _mm512_load_si512(from + kCounts)),
        _mm512_add_epi8(_mm512_load_si512(from + 2 * kCounts), _mm512_load_si512(from + 3 * kCounts)));
  }
}

MF_INLINE void note_start(Tally& tally, const __m512i* counts, std::size_t open) {
  std::uint8_t* to = tally.starts + tally.newest * kCounts;
  for (int v = 0; v < kVectors; ++v) _mm512_store_si512(to + 64 * v, counts[v]);
  tally.newest = tally.newest == open ? 0 : tally.newest + 1;
}

MF_INLINE std::int64_t total(__m512i pairs) {
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64(pairs, 1));
  const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const auto both = static_cast<std::uint64_t>(_mm_cvtsi128_si64(quarter));
  return static_cast<std::int64_t>((both & 0xFFFFFFFFU) + ((both >> 32) << 24));
}

MF_TARGET __attribute__((noinline)) std::int64_t savings_of_any(const TallyCosts& costs, const __m512i* counts) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums[kBytes];
  for (int i = 0; i < kBytes; ++i) {
    sums[i] = _mm512_setzero_si512();
    for (int v = 0; v < kVectors; ++v) {
      const __mmask64 high = _mm512_movepi8_mask(counts[v]);
      const auto& table = costs.byte[static_cast<std::size_t>(i)];
      sums[i] = _mm512_dpbusd_epi32(sums[i], look_up(table.data(), counts[v], high), ones);
    }
  }
  return total(combine(sums));
}

// All counts are below 64, as they are unless few symbols make up the window: one table look-up instead of four.
MF_INLINE std::int64_t savings_of_small(const TallyCosts& costs, const __m512i* counts) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums[kBytes];
  for (int i = 0; i < kBytes; ++i) {
    const __m512i table = _mm512_load_si512(costs.byte[static_cast<std::size_t>(i)].data());
    __m512i two[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int v = 0; v < kVectors; ++v) {
      two[v % 2] = _mm512_dpbusd_epi32(two[v % 2], _mm512_permutexvar_epi8(counts[v], table), ones);
    }
    sums[i] = _mm512_add_epi32(two[0], two[1]);
  }
  return total(combine(sums));
}

MF_INLINE void finish_window(Tally& tally, const Step& step, const TallyCosts& costs) {
  __m512i counts[kVectors];
  read_counts(tally, counts);
  note_start(tally, counts, static_cast<std::size_t>(step.open));
  if (step.tail != 0) {
    count(tally, step.tail);
    read_counts(tally, counts);
  }
  const std::uint8_t* start = tally.starts + tally.oldest * kCounts;
  tally.oldest = tally.oldest == static_cast<std::size_t>(step.open) ? 0 : tally.oldest + 1;
  __m512i any = _mm512_setzero_si512();
  for (int v = 0; v < kVectors; ++v) {
    counts[v] = _mm512_sub_epi8(counts[v], _mm512_load_si512(start + 64 * v));
    any = _mm512_or_si512(any, counts[v]);
  }
  const bool small = _mm512_test_epi8_mask(any, _mm512_set1_epi8(static_cast<char>(0xC0))) == 0;
  const std::int64_t sum = small ? savings_of_small(costs, counts) : savings_of_any(costs, counts);
  *tally.bits++ = static_cast<double>(sum + costs.rest) / costs.scale;
}

MF_INLINE void begin(Tally& tally, const Windows& windows, const Step& step, std::int64_t first) {
  std::memset(tally.counts, 0, sizeof tally.counts);
  tally.symbols = windows.symbols + first * windows.stride;
  tally.bits = windows.bits + first;
  tally.newest = 0;
  tally.oldest = 0;
  for (std::int64_t i = 0; i < step.open; ++i) {
    __m512i counts[kVectors];
    read_counts(tally, counts);
    note_start(tally, counts, static_cast<std::size_t>(step.open));
    count(tally, windows.stride);
  }
}

MF_INLINE void advance(Tally& tally, const Step& step) {
  count(tally, step.advance);
  tally.symbols += step.skip;
}

// Sections are walked in turn: while the counts of one are on their way to memory, those of another are read.
template <std::int64_t kCount>
MF_TARGET void tally_sections(const Windows& windows, const Step& step, const TallyCosts& costs) {
  const std::int64_t section = windows.count / kCount;  // the last takes what is over
  Tally tallies[kCount];
  for (std::int64_t t = 0; t < kCount; ++t) begin(tallies[t], windows, step, t * section);
  for (std::int64_t i = 0; i < section; ++i) {
    if (i > 0) {
      for (Tally& tally : tallies) advance(tally, step);
    }
    for (Tally& tally : tallies) finish_window(tally, step, costs);
  }
  for (std::int64_t i = section * kCount; i < windows.count; ++i) {
    advance(tallies[kCount - 1], step);
    finish_window(tallies[kCount - 1], step, costs);
  }
}

// ---- symbols below 16: no counts in memory but those of a tile, at every 16th symbol ----

constexpr std::int64_t kTile = 16384;  // symbols, and bytes of counts

// [4 x 16] counts of each of four times 16 symbols: each symbol becomes one bit of 16, and transposing eight bytes by
// eight bits turns "which symbol" into "how many bits".
MF_INLINE __m512i count_four_sixteens(__m512i symbols) {
  const __m512i below = _mm512_broadcast_i32x4(_mm_set_epi8(0, 0, 0, 0, 0, 0, 0, 0, -128, 64, 32, 16, 8, 4, 2, 1));
  const __m512i above = _mm512_broadcast_i32x4(_mm_set_epi8(-128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0));
  const __m512i identity = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201ULL));
  const __m512i low = _mm512_popcnt_epi8(
      _mm512_gf2p8affine_epi64_epi8(identity, _mm512_shuffle_epi8(below, symbols), 0));
  const __m512i high = _mm512_popcnt_epi8(
      _mm512_gf2p8affine_epi64_epi8(identity, _mm512_shuffle_epi8(above, symbols), 0));
  return _mm512_add_epi8(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
}

// counts[i] <- counts of the first 16 * i symbols, modulo 256, for i up to length / 16.
MF_INLINE void running_counts(const std::uint8_t* symbols, std::int64_t length, std::uint8_t* counts) {
  __m512i before = _mm512_setzero_si512();
  _mm_store_si128(reinterpret_cast<__m128i*>(counts), _mm_setzero_si128());
  for (std::int64_t i = 0; i < length; i += 64) {
    const std::int64_t here = std::min<std::int64_t>(64, length - i);
    const __mmask64 present = _bzhi_u64(~0ULL, static_cast<unsigned>(here));
    __m512i sums = count_four_sixteens(_mm512_maskz_loadu_epi8(present, symbols + i));
    sums = _mm512_add_epi8(sums, _mm512_maskz_shuffle_i64x2(0xFC, sums, sums, _MM_SHUFFLE(2, 1, 0, 0)));
    sums = _mm512_add_epi8(sums, _mm512_maskz_shuffle_i64x2(0xF0, sums, sums, _MM_SHUFFLE(1, 0, 0, 0)));
    _mm512_storeu_si512(counts + 16 + i, _mm512_add_epi8(before, sums));
    before = _mm512_add_epi8(before, _mm512_shuffle_i64x2(sums, sums, _MM_SHUFFLE(3, 3, 3, 3)));
  }
}

MF_INLINE __m128i load_sixteen(const std::uint8_t* counts) {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(counts));
}

// The counts at four places, `stride` bytes apart.
MF_INLINE __m512i four(const std::uint8_t* counts, std::int64_t stride) {
  __m512i all = _mm512_castsi128_si512(load_sixteen(counts));
  all = _mm512_mask_broadcast_i32x4(all, 0x00F0, load_sixteen(counts + stride));
  all = _mm512_mask_broadcast_i32x4(all, 0x0F00, load_sixteen(counts + 2 * stride));
  return _mm512_mask_broadcast_i32x4(all, 0xF000, load_sixteen(counts + 3 * stride));
}

MF_INLINE __m256d four_windows(const std::uint8_t* counts, const Windows& windows, const TallyCosts& costs) {
  const __m512i inside =
      _mm512_sub_epi8(four(counts + windows.window, windows.stride), four(counts, windows.stride));
  const __mmask64 high = _mm512_movepi8_mask(inside);
  __m512i sums[kBytes];
  for (int i = 0; i < kBytes; ++i) {
    const auto& table = costs.byte[static_cast<std::size_t>(i)];
    sums[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), look_up(table.data(), inside, high), _mm512_set1_epi8(1));
  }
  const __m512i pairs = combine(sums);
  const __m512i low = _mm512_and_si512(pairs, _mm512_set1_epi64(0xFFFFFFFF));
  const __m512i high_part = _mm512_slli_epi64(_mm512_srli_epi64(pairs, 32), 24);
  const __m512i places = _mm512_set_epi64(0, 0, 0, 0, 6, 4, 2, 0);
  const __m256i savings =
      _mm512_castsi512_si256(_mm512_permutexvar_epi64(places, _mm512_add_epi64(low, high_part)));
  const __m256d sum = _mm256_cvtepi64_pd(_mm256_add_epi64(savings, _mm256_set1_epi64x(costs.rest)));
  return _mm256_div_pd(sum, _mm256_set1_pd(costs.scale));
}

}  // namespace

bool tally_serves(std::int64_t window, std::int64_t stride) { return window <= 256 && stride >= kSmallestStride; }

MF_TARGET void tally_avx512(const Windows& windows, const TallyCosts& costs) {
  const Step step = step_of(windows.window, windows.stride);
  // A section counts its first window anew, which must be little beside the rest.
  const bool sections = windows.count / kTallies > 2 * (step.open + 1);
  if (sections) {
    tally_sections<kTallies>(windows, step, costs);
  } else {
    tally_sections<1>(windows, step, costs);
  }
}

MF_TARGET void sixteen_avx512(const Windows& windows, const TallyCosts& costs) {
  alignas(64) std::uint8_t counts[kTile + 4 * 256 + 64];  // room for three windows more than a tile has
  const std::int64_t most = (kTile - windows.window) / windows.stride + 1;
  for (std::int64_t first = 0; first < windows.count; first += most) {
    const std::int64_t here = std::min(most, windows.count - first);
    running_counts(windows.symbols + first * windows.stride, (here - 1) * windows.stride + windows.window, counts);
    double* bits = windows.bits + first;
    for (std::int64_t i = 0; i < here; i += 4) {
      // Past the last window of the tile the counts are stale, and their results are not stored.
      const __m256d result = four_windows(counts + i * windows.stride, windows, costs);
      _mm256_mask_storeu_pd(bits + i, _cvtu32_mask8((1U << std::min<std::int64_t>(4, here - i)) - 1), result);
    }
  }
}

}  // namespace model_forensics

#else

namespace model_forensics {

// avx512_bytes() is false here, so these are never called.
bool tally_serves(std::int64_t, std::int64_t) { return false; }
void tally_avx512(const Windows&, const TallyCosts&) {}
void sixteen_avx512(const Windows&, const TallyCosts&) {}

}  // namespace model_forensics

#endif
