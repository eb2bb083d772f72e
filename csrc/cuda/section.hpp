// What encoding and decoding kernels share: where a section's symbols lie, and the lanes of the range coder.
#pragma once

#include "arithmetic.hpp"
#include "device.hpp"

namespace model_forensics::cuda {

enum Kind : std::int32_t { kRaw = 0, kConstant = 1, kStatic = 2, kAdaptive = 3, kConditional = 4 };

inline constexpr int kSymbols = 256;
inline constexpr int kOwn = kSymbols / kWarp;  // symbols of a lane where a warp makes frequencies
inline constexpr int kStaticBits = 14;  // log2 of what frequencies add up to
inline constexpr int kAdaptiveBits = 20;
inline constexpr int kMostLanesLog2 = 5;
inline constexpr int kMostAdaptiveLanesLog2 = 3;
inline constexpr std::int64_t kStreamHeader = 24;
inline constexpr std::int64_t kChunkHeader = 8;
inline constexpr std::uint64_t kWhole = std::uint64_t{1} << 48;
inline constexpr std::uint64_t kRenormalise = std::uint64_t{1} << 32;

__device__ __forceinline__ std::int64_t chunk_bytes(const Frame& frame, std::int64_t chunk) {
  return smaller(frame.chunk, frame.size - chunk * frame.chunk);
}

__device__ __forceinline__ std::int64_t section_symbols(const Frame& frame, std::int64_t section) {
  return chunk_bytes(frame, section / frame.width) / frame.width;
}

// Where the section's symbols begin among the planes.
__device__ __forceinline__ std::int64_t section_start(const Frame& frame, std::int64_t section) {
  return section / frame.width * frame.chunk + section % frame.width * section_symbols(frame, section);
}

// How many symbols of n a lane has.
__device__ __forceinline__ std::int64_t rows_of(std::int64_t n, int lane, int lanes) {
  return lane < lanes ? (n + lanes - 1 - lane) / lanes : 0;
}

// 16-bit words that one of the lanes of n symbols may write. A symbol takes at most log2 of the total and, for rounding,
// less than 2^-11 bits; besides there are an empty word at first, the one that opens the interval, two at the end, and
// what a lane has more than others, one symbol.
__host__ __device__ constexpr std::int64_t lane_capacity(std::int64_t n, int lanes, Model model) {
  const int bits = model == Model::adaptive ? kAdaptiveBits : kStaticBits;
  return n / lanes * (bits + 1) / 16 + 6;
}

// Where a symbol lies in the total: [start, start + frequency).
struct alignas(8) Slice {
  std::uint32_t start, frequency;
};

// Of a static section: start | frequency << 16.
__device__ __forceinline__ Slice unpack(std::uint32_t slice) { return {slice & 0xFFFFU, slice >> 16}; }

// As in csrc/core/range_coder.hpp: the word before the interval is kept in the upper 16 bits of `low`, so that a carry
// seldom goes further; the first word that leaves is an empty one and not part of the code.
struct Encoder {
  std::uint64_t low = 0;
  std::uint64_t range = kWhole;
  std::uint16_t* next;

  __device__ __forceinline__ explicit Encoder(std::uint16_t* words) : next(words) {}

  __device__ __forceinline__ void add(std::uint64_t offset) {
    low += offset;
    if (__builtin_expect(low < offset, 0)) {
      std::uint16_t* word = next;
      do {
        --word;
        *word = static_cast<std::uint16_t>(*word + 1);
      } while (*word == 0);
    }
  }

  __device__ __forceinline__ void put(int shift) { *next++ = static_cast<std::uint16_t>(low >> shift); }

  // Without a branch: in a warp there is nearly always a lane that has to.
  __device__ __forceinline__ void renormalise() {
    const bool narrow = static_cast<std::uint32_t>(range >> 32) == 0;  // range < kRenormalise
    if (narrow) *next = static_cast<std::uint16_t>(low >> 48);
    const int shift = narrow ? 16 : 0;
    next += narrow ? 1 : 0;
    low <<= shift;
    range <<= shift;
  }

  template <int kTotalBits>
  __device__ __forceinline__ void encode(Slice slice) {
    const std::uint64_t r = range >> kTotalBits;
    add(r * slice.start);
    range = r * slice.frequency;
    renormalise();
    if constexpr (kTotalBits > 16) renormalise();  // a rare symbol may push out two words
  }

  __device__ __forceinline__ void finish() {
    add(kRenormalise - 1);
    put(48);
    put(32);
  }
};

// Words behind the last one read as 0. The next word is loaded before it is needed.
struct Decoder {
  std::uint64_t value = 0;
  std::uint64_t range = kWhole;
  const std::uint8_t* bytes;  // of the lane's words, at any address
  std::uint32_t left;         // words behind the one ahead
  std::uint32_t ahead = 0;

  __device__ __forceinline__ Decoder(const std::uint8_t* words, std::uint32_t count) : bytes(words), left(count) {
    load();
    for (int i = 0; i < 3; ++i) take();
  }

  __device__ __forceinline__ void load() {
    ahead = 0;
    if (left == 0) return;
    ahead = bytes[0] | static_cast<std::uint32_t>(bytes[1]) << 8;
    bytes += 2;
    --left;
  }

  // The mask is for damaged streams, whose value may be beyond the range.
  __device__ __forceinline__ void take() {
    value = ((value << 16) | ahead) & (kWhole - 1);
    load();
  }

  __device__ __forceinline__ void renormalise() {
    take();
    range <<= 16;
  }

  // floor(value / r), below 2^kTotalBits. The division of doubles is exact: csrc/core/range_coder.hpp says why.
  template <int kTotalBits>
  __device__ __forceinline__ int position(std::uint64_t r) const {
    const double quotient =
        static_cast<double>(static_cast<long long>(value)) / static_cast<double>(static_cast<long long>(r));
    return static_cast<int>(smaller(static_cast<std::int64_t>(quotient), (1 << kTotalBits) - 1));
  }

  template <int kTotalBits>
  __device__ __forceinline__ void advance(std::uint64_t r, Slice slice) {
    value -= r * slice.start;
    range = r * slice.frequency;
    if (range < kRenormalise) {
      renormalise();
      if constexpr (kTotalBits > 16) {
        if (range < kRenormalise) renormalise();
      }
    }
  }
};

}  // namespace model_forensics::cuda
