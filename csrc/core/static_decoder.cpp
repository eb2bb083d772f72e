#include "static_decoder.hpp"

#include <algorithm>

#include "decode_rows.hpp"
#include "isa.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace model_forensics {

namespace {

constexpr std::size_t kRows = 256;
constexpr std::size_t kRowBytes = 2;  // one word at most

#if defined(__x86_64__) && defined(__GNUC__)
#define MODEL_FORENSICS_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

constexpr std::size_t kStep = 4;  // rows for which eight bytes of a lane's words are enough

// Eight lanes a vector, kVectors vectors in flight; the arithmetic of DecoderLane. `rows` is a multiple of kStep.
template <int kVectors>
MODEL_FORENSICS_AVX512 void rows_avx512(const std::uint8_t* symbol_at, const std::uint32_t* slices, std::uint8_t* symbols,
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
  const __m512i byte = _mm512_set1_epi32(0xFF);
  const __m512i low16 = _mm512_set1_epi32(0xFFFF);
  const __m512i word = _mm512_set1_epi64(0xFFFF);
  const __m512i low48 = _mm512_set1_epi64(static_cast<long long>(kWhole - 1));
  const __m512i renormalise = _mm512_set1_epi64(static_cast<long long>(kRenormalise));
  const __m512i two = _mm512_set1_epi64(2);
  __m512i words[kVectors];
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) {
    if (row % kStep == 0) {
      for (int v = 0; v < kVectors; ++v) words[v] = _mm512_i64gather_epi64(next[v], nullptr, 1);
    }
    for (int v = 0; v < kVectors; v += 2) {
      __m512i r[2];
      __m256i position[2];
      for (int k = 0; k < 2; ++k) {
        r[k] = _mm512_srli_epi64(range[v + k], kStaticBits);
        const __m512d quotient = _mm512_div_pd(_mm512_cvtepi64_pd(value[v + k]), _mm512_cvtepi64_pd(r[k]));
        position[k] = _mm512_cvtepi64_epi32(_mm512_min_epi64(_mm512_cvttpd_epi64(quotient), last));
      }
      const __m512i positions = _mm512_inserti64x4(_mm512_castsi256_si512(position[0]), position[1], 1);
      const __m512i found = _mm512_and_si512(_mm512_i32gather_epi32(positions, symbol_at, 1), byte);
      const __m512i slice = _mm512_i32gather_epi32(found, slices, 4);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + 8 * v), _mm512_cvtepi32_epi8(found));
      const __m512i start = _mm512_and_si512(slice, low16);
      const __m512i frequency = _mm512_srli_epi32(slice, 16);
      const __m512i starts[2] = {_mm512_cvtepu32_epi64(_mm512_castsi512_si256(start)),
                                 _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(start, 1))};
      const __m512i frequencies[2] = {_mm512_cvtepu32_epi64(_mm512_castsi512_si256(frequency)),
                                      _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(frequency, 1))};
      for (int k = 0; k < 2; ++k) {
        const int at = v + k;
        value[at] = _mm512_sub_epi64(value[at], _mm512_mullo_epi64(starts[k], r[k]));
        range[at] = _mm512_mullo_epi64(frequencies[k], r[k]);
        const __mmask8 enters = _mm512_cmplt_epu64_mask(range[at], renormalise);
        const __m512i longer = _mm512_or_si512(_mm512_slli_epi64(value[at], 16), _mm512_and_si512(words[at], word));
        value[at] = _mm512_mask_and_epi64(value[at], enters, longer, low48);
        range[at] = _mm512_mask_slli_epi64(range[at], enters, range[at], 16);
        words[at] = _mm512_mask_srli_epi64(words[at], enters, words[at], 16);
        next[at] = _mm512_mask_add_epi64(next[at], enters, next[at], two);
      }
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
    packed_[s] = slices[s].start | slices[s].frequency << 16;
    std::fill_n(symbol_at_.begin() + slices[s].start, slices[s].frequency, static_cast<std::uint8_t>(s));
  }
}

void StaticDecoder::decode(std::span<std::uint8_t> symbols, std::size_t lanes, DecoderLane* states) const {
  const std::size_t rows = symbols.size() / lanes;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t here = std::min(kRows, rows - first);
    std::uint8_t* start = symbols.data() + first * lanes;
#if defined(__x86_64__) && defined(__GNUC__)
    if (isa() >= Isa::avx512 && lanes >= 16 && here % kStep == 0 && enough_words(states, lanes, kRowBytes * here + 8)) {
      if (lanes == 16) rows_avx512<2>(symbol_at_.data(), packed_.data(), start, here, lanes, states);
      if (lanes == 32) rows_avx512<4>(symbol_at_.data(), packed_.data(), start, here, lanes, states);
      continue;
    }
#endif
    decode_block(*this, start, here, lanes, kRowBytes, states);
  }
  for (std::size_t i = rows * lanes; i < symbols.size(); ++i) symbols[i] = symbol<true>(states[i - rows * lanes]);
}

}  // namespace model_forensics
