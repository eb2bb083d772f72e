// One lane of the range coder (Martin 1979, "Range encoding"; carries go into words already written).
//
// A lane holds an interval [low, low + range) of 48 bits, 2^32 <= range <= 2^48 between symbols. A symbol of frequency f
// from s on, of a total of 2^P, narrows it to [low + r*s, low + r*s + r*f) with r = range >> P; when range falls below
// 2^32, the upper 16 bits of low leave as a word.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__x86_64__) && defined(__GNUC__)
#define MODEL_FORENSICS_BMI2 __attribute__((target("bmi2")))
#else
#define MODEL_FORENSICS_BMI2
#endif

namespace model_forensics {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

inline constexpr std::uint64_t kWhole = std::uint64_t{1} << 48;
inline constexpr std::uint64_t kRenormalise = std::uint64_t{1} << 32;

// Where a symbol lies in the total: [start, start + frequency).
struct Slice {
  std::uint32_t start;
  std::uint32_t frequency;
};

// A carry into words that were written before. The code is below 1, so that some word can take it. Out of line: it is rare,
// and the lane's state stays in registers.
[[gnu::noinline, gnu::cold]] inline void add_one_before(std::uint16_t* next) {
  while (++*--next == 0) {
  }
}

// Keeps the word before the interval in the upper 16 bits of `low`, so that a carry goes further only if that word is
// full. The first word that leaves is this empty one: it is not part of the code.
struct EncoderLane {
  std::uint64_t low = 0;
  std::uint64_t range = kWhole;
  std::uint16_t* next = nullptr;  // where the next word goes; one word of slack is needed behind the last

  template <int kTotalBits>
  [[gnu::always_inline]] void encode(Slice slice) {
    const std::uint64_t r = range >> kTotalBits;
    add(r * slice.start);
    range = r * slice.frequency;
    renormalise();
    if constexpr (kTotalBits > 16) {  // a rare symbol may push out two words
      if (range < kRenormalise) [[unlikely]] renormalise();
    }
  }

  [[gnu::always_inline]] void add(std::uint64_t offset) {
    low += offset;
    if (low < offset) [[unlikely]] add_one_before(next);
  }

  // Without a branch: whether a word leaves is a coin toss.
  [[gnu::always_inline]] void renormalise() {
    const std::uint64_t leaves = range < kRenormalise;
    *next = static_cast<std::uint16_t>(low >> 48);
    next += leaves;
    low <<= 16 * leaves;
    range <<= 16 * leaves;
  }

  // The multiple of 2^32 in [low, low + range) takes one word; what follows the last word reads as zero.
  void finish() {
    add(kRenormalise - 1);
    *next++ = static_cast<std::uint16_t>(low >> 48);
    *next++ = static_cast<std::uint16_t>(low >> 32);
  }
};

struct DecoderLane {
  std::uint64_t value = 0;  // code - low
  std::uint64_t range = kWhole;
  const std::uint8_t* next = nullptr;  // words of two bytes, the lower first, at any address
  const std::uint8_t* end = nullptr;

  // Words behind the last one read as zero; unchecked where enough are known to be left.
  template <bool kChecked>
  [[gnu::always_inline]] std::uint64_t word() const {
    if constexpr (kChecked) {
      if (next >= end) return 0;
    }
    std::uint16_t loaded = 0;
    std::memcpy(&loaded, next, sizeof loaded);
    return loaded;
  }

  void start(std::span<const std::uint8_t> words) {
    next = words.data();
    end = next + words.size();
    for (int i = 0; i < 3; ++i) {
      value = (value << 16) | word<true>();
      skip<true>(1);
    }
  }

  // The pointer stays at the end, also in a damaged stream.
  template <bool kChecked>
  [[gnu::always_inline]] void skip(std::ptrdiff_t words) {
    if constexpr (kChecked) {
      next += next < end ? 2 * words : 0;
    } else {
      next += 2 * words;
    }
  }

  // floor(value / r), below 2^P in a sound stream, by a division of doubles. It is exact: value < 2^48 and r are integers
  // that doubles hold; a quotient that is no integer lies at least 1/r >= 2^(P - 48) below the next integer k <= 2^P, and
  // doubles up to k are at most 2^(P - 53) apart, so rounding cannot reach k.
  template <int kTotalBits>
  [[gnu::always_inline]] std::uint32_t position(std::uint64_t r) const {
    const double quotient = static_cast<double>(static_cast<std::int64_t>(value)) /
                            static_cast<double>(static_cast<std::int64_t>(r));
    return static_cast<std::uint32_t>(
        std::min(static_cast<std::int64_t>(quotient), (std::int64_t{1} << kTotalBits) - 1));
  }

  template <bool kChecked>
  [[gnu::always_inline]] void renormalise() {
    const std::uint64_t enters = range < kRenormalise;
    // The mask is for damaged streams, whose value may be beyond the range.
    value = ((value << (16 * enters)) | (word<kChecked>() & (0 - enters))) & (kWhole - 1);
    range <<= 16 * enters;
    skip<kChecked>(static_cast<std::ptrdiff_t>(enters));
  }

  template <int kTotalBits, bool kChecked>
  [[gnu::always_inline]] void advance(std::uint64_t r, Slice slice) {
    value -= r * slice.start;
    range = r * slice.frequency;
    renormalise<kChecked>();
    if constexpr (kTotalBits > 16) {
      if (range < kRenormalise) [[unlikely]] renormalise<kChecked>();
    }
  }
};

}  // namespace model_forensics
