#include "adaptive_decoder.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "decode_rows.hpp"
#include "isa.hpp"
#include "x86.hpp"

namespace model_forensics {

namespace {

constexpr std::size_t kLanes = 8;     // with which a section is long enough for vectors
constexpr std::size_t kRows = 256;    // for which words are known to be left
constexpr std::size_t kRowBytes = 4;  // two words at most

#ifdef MODEL_FORENSICS_X86

constexpr std::size_t kStep = 2;  // rows for which eight bytes of a lane's words are enough

// Eight lanes in a vector, but for the search of their symbols; the arithmetic of DecoderLane. `rows` is a multiple of
// kStep.
MODEL_FORENSICS_AVX512 void rows_avx512(const AdaptiveDecoder& model, std::uint8_t* symbols, std::size_t rows,
                                        DecoderLane* states) {
  alignas(64) std::uint64_t buffer[3][kLanes];
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    buffer[0][lane] = states[lane].value;
    buffer[1][lane] = states[lane].range;
    buffer[2][lane] = reinterpret_cast<std::uintptr_t>(states[lane].next);
  }
  __m512i value = _mm512_load_si512(buffer[0]);
  __m512i range = _mm512_load_si512(buffer[1]);
  __m512i next = _mm512_load_si512(buffer[2]);
  __m512i words = _mm512_setzero_si512();
  const __m512i last = _mm512_set1_epi64((1 << kAdaptiveBits) - 1);
  const __m512i low16 = _mm512_set1_epi64(0xFFFF);
  const __m512i low48 = _mm512_set1_epi64(static_cast<long long>(kWhole - 1));
  const __m512i renormalise = _mm512_set1_epi64(static_cast<long long>(kRenormalise));
  const __m512i two = _mm512_set1_epi64(2);
  for (std::size_t row = 0; row < rows; ++row, symbols += kLanes) {
    if (row % kStep == 0) words = _mm512_i64gather_epi64(next, nullptr, 1);
    const __m512i r = _mm512_srli_epi64(range, kAdaptiveBits);  // at most 2^28: products of lower halves are enough
    const __m512d quotient = _mm512_div_pd(_mm512_cvtepi64_pd(value), _mm512_cvtepi64_pd(r));
    const __m512i position = _mm512_min_epi64(_mm512_cvttpd_epi64(quotient), last);
    _mm512_store_si512(buffer[0], position);
    Slice found[kLanes];  // gathers would take longer
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const std::size_t symbol = model.find(buffer[0][lane]);
      found[lane] = model.slice(symbol);
      symbols[lane] = static_cast<std::uint8_t>(symbol);
    }
    const auto bits = [&found](std::size_t lane) { return std::bit_cast<long long>(found[lane]); };
    const __m512i slice = _mm512_set_epi64(bits(7), bits(6), bits(5), bits(4), bits(3), bits(2), bits(1), bits(0));
    const __m512i frequency = _mm512_srli_epi64(slice, 32);
    value = _mm512_sub_epi64(value, _mm512_mul_epu32(slice, r));
    range = _mm512_mul_epu32(frequency, r);
    __mmask8 enters = _mm512_cmplt_epu64_mask(range, renormalise);
    do {
      const __m512i longer = _mm512_or_si512(_mm512_slli_epi64(value, 16), _mm512_and_si512(words, low16));
      value = _mm512_mask_and_epi64(value, enters, longer, low48);
      range = _mm512_mask_slli_epi64(range, enters, range, 16);
      words = _mm512_mask_srli_epi64(words, enters, words, 16);
      next = _mm512_mask_add_epi64(next, enters, next, two);
      enters = _mm512_cmplt_epu64_mask(range, renormalise);
    } while (enters != 0);  // a rare symbol takes two words
  }
  _mm512_store_si512(buffer[0], value);
  _mm512_store_si512(buffer[1], range);
  _mm512_store_si512(buffer[2], next);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    states[lane].value = buffer[0][lane];
    states[lane].range = buffer[1][lane];
    states[lane].next = reinterpret_cast<const std::uint8_t*>(buffer[2][lane]);
  }
}

#endif

}  // namespace

// The first bucket that begins at the position or behind it.
std::size_t AdaptiveDecoder::bucket_from(std::size_t position) {
  return (position + (std::size_t{1} << kBucketBits) - 1) >> kBucketBits;
}

void AdaptiveDecoder::update(const Counts& counts) {
  slices_ = slices_of(adaptive_frequencies(counts));
  for (std::size_t s = 0; s < kSymbols; ++s) {
    const std::size_t stop = bucket_from(slices_[s].start + slices_[s].frequency);
    // Goes beyond the symbol's buckets: those that follow are written later.
    for (std::size_t at = bucket_from(slices_[s].start); at < stop; at += kStore) {
      std::memset(first_.data() + at, static_cast<int>(s), kStore);
    }
  }
}

void AdaptiveDecoder::decode(std::span<std::uint8_t> symbols, std::size_t lanes, DecoderLane* states) const {
  const std::size_t rows = symbols.size() / lanes;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t here = std::min(kRows, rows - first);
    std::uint8_t* start = symbols.data() + first * lanes;
#ifdef MODEL_FORENSICS_X86
    if (isa() >= Isa::avx512 && lanes == kLanes && here % kStep == 0 &&
        enough_words(states, lanes, kRowBytes * here + 8)) {
      rows_avx512(*this, start, here, states);
      continue;
    }
#endif
    decode_block(*this, start, here, lanes, kRowBytes, states);
  }
  for (std::size_t i = rows * lanes; i < symbols.size(); ++i) symbols[i] = symbol<true>(states[i - rows * lanes]);
}

}  // namespace model_forensics
