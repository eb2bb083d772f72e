#include "static_decoder.hpp"

#include <algorithm>

#include "isa.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace model_forensics {

namespace {

constexpr std::size_t kRows = 256;

bool enough_words(const DecoderLane* states, std::size_t lanes, std::size_t bytes) {
  return std::all_of(states, states + lanes, [bytes](const DecoderLane& lane) {
    return static_cast<std::size_t>(lane.end - lane.next) >= bytes;
  });
}

#if defined(__x86_64__) && defined(__GNUC__)
#define MODEL_FORENSICS_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

// Eight lanes a vector, kVectors vectors in flight; the arithmetic of DecoderLane. A step takes at most one word a lane
// and looks at eight bytes.
template <int kVectors>
MODEL_FORENSICS_AVX512 void rows_avx512(const std::uint8_t* symbol_at, const Slice* slices, std::uint8_t* symbols,
                                        std::size_t rows, std::size_t stride, DecoderLane* states) {
  __m512i value[kVectors];
  __m512i range[kVectors];
  __m512i next[kVectors];
  alignas(64) std::uint64_t buffer[3][8];
  for (int v = 0; v < kVectors; ++v) {
    for (int lane = 0; lane < 8; ++lane) {
      buffer[0][lane] = states[8 * v + lane].value;
      buffer[1][lane] = states[8 * v + lane].range;
      buffer[2][lane] = reinterpret_cast<std::uintptr_t>(states[8 * v + lane].next);
    }
    value[v] = _mm512_load_si512(buffer[0]);
    range[v] = _mm512_load_si512(buffer[1]);
    next[v] = _mm512_load_si512(buffer[2]);
  }
  const __m512i last = _mm512_set1_epi64((1 << kStaticBits) - 1);
  const __m512i byte = _mm512_set1_epi64(0xFF);
  const __m512i word = _mm512_set1_epi64(0xFFFF);
  const __m512i low32 = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i low48 = _mm512_set1_epi64(static_cast<long long>(kLow48));
  const __m512i renormalise = _mm512_set1_epi64(static_cast<long long>(kRenormalise));
  const __m512i two = _mm512_set1_epi64(2);
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) {
    for (int v = 0; v < kVectors; ++v) {
      const __m512i r = _mm512_srli_epi64(range[v], kStaticBits);
      const __m512d quotient = _mm512_div_pd(_mm512_cvtepi64_pd(value[v]), _mm512_cvtepi64_pd(r));
      const __m512i position = _mm512_min_epi64(_mm512_cvttpd_epi64(quotient), last);
      const __m512i found = _mm512_and_si512(_mm512_i64gather_epi64(position, symbol_at, 1), byte);
      const __m512i slice = _mm512_i64gather_epi64(found, slices, 8);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(symbols + 8 * v), _mm512_cvtepi64_epi8(found));
      value[v] = _mm512_sub_epi64(value[v], _mm512_mullo_epi64(_mm512_and_si512(slice, low32), r));
      range[v] = _mm512_mullo_epi64(_mm512_srli_epi64(slice, 32), r);
      const __mmask8 enters = _mm512_cmplt_epu64_mask(range[v], renormalise);
      const __m512i words = _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), enters, next[v], nullptr, 1);
      const __m512i longer = _mm512_or_si512(_mm512_slli_epi64(value[v], 16), _mm512_and_si512(words, word));
      value[v] = _mm512_mask_and_epi64(value[v], enters, longer, low48);
      range[v] = _mm512_mask_slli_epi64(range[v], enters, range[v], 16);
      next[v] = _mm512_mask_add_epi64(next[v], enters, next[v], two);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    _mm512_store_si512(buffer[0], value[v]);
    _mm512_store_si512(buffer[1], range[v]);
    _mm512_store_si512(buffer[2], next[v]);
    for (int lane = 0; lane < 8; ++lane) {
      states[8 * v + lane].value = buffer[0][lane];
      states[8 * v + lane].range = buffer[1][lane];
      states[8 * v + lane].next = reinterpret_cast<const std::uint8_t*>(buffer[2][lane]);
    }
  }
}

#undef MODEL_FORENSICS_AVX512
#endif

}  // namespace

StaticDecoder::StaticDecoder(const Slices& slices) : slices_(slices) {
  for (std::size_t s = 0; s < kSymbols; ++s) {
    std::fill_n(symbol_at_.begin() + slices[s].start, slices[s].frequency, static_cast<std::uint8_t>(s));
  }
}

template <std::size_t kLanes, bool kChecked>
void StaticDecoder::rows(std::uint8_t* symbols, std::size_t rows, std::size_t stride, DecoderLane* states) const {
  std::array<DecoderLane, kLanes> lanes;
  std::copy_n(states, kLanes, lanes.begin());
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) symbols[lane] = symbol<kChecked>(lanes[lane]);
  }
  std::copy_n(lanes.begin(), kLanes, states);
}

template <std::size_t kLanes>
void StaticDecoder::block(std::uint8_t* symbols, std::size_t rows_here, std::size_t stride, DecoderLane* states) const {
  if (enough_words(states, kLanes, 2 * rows_here)) {
    rows<kLanes, false>(symbols, rows_here, stride, states);
  } else {
    rows<kLanes, true>(symbols, rows_here, stride, states);
  }
}

void StaticDecoder::decode(std::span<std::uint8_t> symbols, std::size_t lanes, DecoderLane* states) const {
  const std::size_t rows = symbols.size() / lanes;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t here = std::min(kRows, rows - first);
    std::uint8_t* start = symbols.data() + first * lanes;
#if defined(__x86_64__) && defined(__GNUC__)
    if (isa() >= Isa::avx512 && lanes >= 16 && enough_words(states, lanes, 2 * here + 8)) {
      if (lanes == 16) rows_avx512<2>(symbol_at_.data(), slices_.data(), start, here, lanes, states);
      if (lanes == 32) rows_avx512<4>(symbol_at_.data(), slices_.data(), start, here, lanes, states);
      continue;
    }
#endif
    if (lanes == 1) block<1>(start, here, 1, states);
    if (lanes == 2) block<2>(start, here, 2, states);
    for (std::size_t lane = 0; lane + 4 <= lanes; lane += 4) block<4>(start + lane, here, lanes, states + lane);
  }
  for (std::size_t i = rows * lanes; i < symbols.size(); ++i) symbols[i] = symbol<true>(states[i - rows * lanes]);
}

}  // namespace model_forensics
