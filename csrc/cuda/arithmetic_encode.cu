// A warp a section: its lanes are the warp's. First the frequencies, then the words of each lane into scratch memory,
// then, when the sizes are known, everything to its place.
#include "device.hpp"
#include "section.hpp"

namespace model_forensics::cuda {

namespace {

constexpr int kOwn = kSymbols / kWarp;  // symbols of a lane
constexpr int kAhead = 16;              // symbols that a lane loads before it needs them
constexpr int kWriteThreads = 512;

__device__ __forceinline__ int varint_bytes(std::int64_t value) {
  int bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

// floor(256 * log2(value)) or one less, by squaring: integers only.
__device__ inline std::int64_t log2_in_256ths(std::uint32_t value) {
  int whole = 0;
  while (value >> whole > 1) ++whole;
  std::uint64_t mantissa = (std::uint64_t{value} << 31) >> whole;
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

// Shares of 2^14 by largest remainders, ties to the smaller symbol. Lane l has the symbols from 8 * l on.
// A symbol is given at most one: its remainder is below n, and the positive ones are more than what is to be given.
__device__ inline void static_frequencies(const std::uint32_t (&counts)[kOwn], std::int64_t n, std::int64_t* remainders,
                                          std::uint32_t (&frequencies)[kOwn]) {
  const int first = static_cast<int>(threadIdx.x) * kOwn;
  std::int64_t shared_out = 0;
  for (int k = 0; k < kOwn; ++k) {
    const std::int64_t scaled = static_cast<std::int64_t>(counts[k]) << kStaticBits;
    std::int64_t share = scaled / n;
    if (share == 0 && counts[k] > 0) share = 1;
    frequencies[k] = static_cast<std::uint32_t>(share);
    remainders[first + k] = scaled - share * n;
    shared_out += share;
  }
  __syncwarp();
  std::int64_t left = (std::int64_t{1} << kStaticBits) - warp_sum(shared_out);
  if (left > 0) {
    for (int k = 0; k < kOwn; ++k) {
      const int own = first + k;
      int before = 0;
      for (int s = 0; s < kSymbols; ++s) {
        const bool larger = remainders[s] > remainders[own] || (remainders[s] == remainders[own] && s < own);
        before += larger ? 1 : 0;
      }
      if (before < left) ++frequencies[k];
    }
  }
  for (; left < 0; ++left) {  // one from the largest, the smallest symbol of them
    unsigned best = 0;
    for (int k = 0; k < kOwn; ++k) {
      const unsigned key = frequencies[k] << 8 | static_cast<unsigned>(kSymbols - 1 - first - k);
      best = key > best ? key : best;
    }
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const unsigned other = __shfl_xor_sync(kAllLanes, best, mask);
      best = other > best ? other : best;
    }
    const int symbol = kSymbols - 1 - static_cast<int>(best & 0xFFU);
    for (int k = 0; k < kOwn; ++k) {
      if (first + k == symbol) --frequencies[k];
    }
  }
}

// log2 of the number of lanes, from an estimate of the coded bytes, as csrc/core/symbol_model.cpp makes it.
__device__ inline int lanes_log2(const std::uint32_t (&counts)[kOwn], const std::uint32_t (&frequencies)[kOwn]) {
  std::int64_t bits = 0;
  for (int k = 0; k < kOwn; ++k) {
    if (counts[k] > 0) bits += std::int64_t{counts[k]} * ((kStaticBits << 8) - log2_in_256ths(frequencies[k]));
  }
  bits = warp_sum(bits);
  int lanes = 0;
  while ((1 << lanes) < kLanes && (bits >> (24 + lanes)) > 0) ++lanes;
  return lanes;
}

// Sum of the lower lanes' values.
__device__ inline std::uint32_t sum_before(std::uint32_t value) {
  std::uint32_t before = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    const std::uint32_t other = __shfl_sync(kAllLanes, value, lane);
    if (lane < static_cast<int>(threadIdx.x)) before += other;
  }
  return before;
}

__global__ void __launch_bounds__(kWarp) model_kernel(const std::uint32_t* all_counts, Frame frame, Coded coded) {
  MODEL_FORENSICS_SHARED(memory);
  const auto section = static_cast<std::int64_t>(blockIdx.x);
  const int first = static_cast<int>(threadIdx.x) * kOwn;
  const std::int64_t n = section_symbols(frame, section);
  std::uint32_t counts[kOwn];
  int all = -1;
  for (int k = 0; k < kOwn; ++k) {
    counts[k] = all_counts[section * kSymbols + first + k];
    if (counts[k] == n) all = first + k;
  }
  if (n == 0) {
    if (threadIdx.x == 0) coded.sections[section] = {kRaw, 0, 0, 0};
    return;
  }
  if (__ballot_sync(kAllLanes, all >= 0) != 0) {
    if (all >= 0) coded.sections[section] = {kConstant, 0, 0, all};
    return;
  }
  std::uint32_t frequencies[kOwn];
  static_frequencies(counts, n, reinterpret_cast<std::int64_t*>(memory), frequencies);
  std::uint32_t width = 0;
  std::int64_t table = 0;
  for (int k = 0; k < kOwn; ++k) {
    width += frequencies[k];
    if (frequencies[k] > 0) table += varint_bytes(frequencies[k]);
  }
  table = kSymbols / 8 + warp_sum(table);
  const int lanes = lanes_log2(counts, frequencies);
  std::uint32_t start = sum_before(width);
  for (int k = 0; k < kOwn; ++k) {
    coded.slices[section * kSymbols + first + k] = start | frequencies[k] << 16;
    start += frequencies[k];
  }
  if (threadIdx.x == 0) coded.sections[section] = {kStatic, lanes, static_cast<std::int32_t>(table), 0};
}

// Every `lanes`-th of n symbols, from `lane` on. The symbols come from far: some are loaded ahead.
__device__ inline void encode_lane(const std::uint8_t* symbols, std::int64_t rows, int lanes, const std::uint32_t* slices,
                                   Encoder& encoder) {
  std::uint8_t ahead[kAhead];
#pragma unroll
  for (int k = 0; k < kAhead; ++k) ahead[k] = k < rows ? symbols[k * lanes] : std::uint8_t{0};
  for (std::int64_t row = 0; row < rows; row += kAhead) {
    std::uint8_t now[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      now[k] = ahead[k];
      const std::int64_t next = row + kAhead + k;
      if (next < rows) ahead[k] = symbols[next * lanes];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (row + k < rows) encoder.encode(slices[now[k]]);
    }
  }
}

__global__ void __launch_bounds__(kWarp) encode_kernel(const std::uint8_t* planes, Frame frame, Coded coded,
                                                       std::int64_t scratch_words) {
  MODEL_FORENSICS_SHARED(memory);
  auto* const slices = reinterpret_cast<std::uint32_t*>(memory);
  const auto section = static_cast<std::int64_t>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t n = section_symbols(frame, section);
  Section known = coded.sections[section];
  std::int64_t size = known.kind == kConstant ? 2 : 1 + n;
  if (known.kind == kStatic) {
    for (int s = lane; s < kSymbols; s += kWarp) slices[s] = coded.slices[section * kSymbols + s];
    __syncwarp();
    const int lanes = 1 << known.lanes_log2;
    std::int64_t words = 0;
    if (lane < lanes) {
      std::uint16_t* const first = coded.words + section * scratch_words + lane * lane_capacity(n, lanes);
      Encoder encoder(first);
      encode_lane(planes + section_start(frame, section) + lane, rows_of(n, lane, lanes), lanes, slices, encoder);
      encoder.finish();
      words = encoder.next - (first + 1);
      while (words > 0 && first[words] == 0) --words;  // read as 0 where they are missing
      coded.lane_words[section * kLanes + lane] = static_cast<std::int32_t>(words);
    }
    const std::int64_t coded_size =
        2 + known.table + warp_sum(lane < lanes ? varint_bytes(words) + 2 * words : std::int64_t{0});
    if (coded_size <= n) {
      size = coded_size;
    } else {
      known.kind = kRaw;
    }
  }
  if (lane == 0) {
    coded.sections[section].kind = known.kind;
    coded.sizes[section] = size;
  }
}

// --- writing ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ std::uint8_t* put(std::uint8_t* to, std::uint32_t value) {
  for (int byte = 0; byte < 4; ++byte) *to++ = static_cast<std::uint8_t>(value >> (8 * byte));
  return to;
}

__device__ __forceinline__ std::uint8_t* put_varint(std::uint8_t* to, std::uint32_t value) {
  for (; value >= 0x80; value >>= 7) *to++ = static_cast<std::uint8_t>(value | 0x80);
  *to++ = static_cast<std::uint8_t>(value);
  return to;
}

__device__ inline std::uint8_t* put_table(std::uint8_t* to, const std::uint32_t* slices) {
  for (int byte = 0; byte < kSymbols / 8; ++byte) {
    unsigned present = 0;
    for (int bit = 0; bit < 8; ++bit) present |= slices[byte * 8 + bit] >> 16 != 0 ? 1U << bit : 0U;
    *to++ = static_cast<std::uint8_t>(present);
  }
  for (int s = 0; s < kSymbols; ++s) {
    if (slices[s] >> 16 != 0) to = put_varint(to, slices[s] >> 16);
  }
  return to;
}

__device__ inline void copy(std::uint8_t* to, const std::uint8_t* from, std::int64_t size) {
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < size; i += kWriteThreads) to[i] = from[i];
}

__global__ void __launch_bounds__(kWriteThreads) write_kernel(const std::uint8_t* planes, const std::uint32_t* checksums,
                                                              Frame frame, Coded coded, const std::int64_t* chunk_starts,
                                                              const std::int64_t* section_starts, std::uint8_t* out,
                                                              std::int64_t scratch_words) {
  const auto section = static_cast<std::int64_t>(blockIdx.x);
  const std::int64_t chunk = section / frame.width;
  const Section known = coded.sections[section];
  const std::int64_t n = section_symbols(frame, section);
  std::uint8_t* const to = out + section_starts[section];
  const std::int32_t* const words = coded.lane_words + section * kLanes;
  const int lanes = 1 << known.lanes_log2;
  if (threadIdx.x == 0) {
    if (section % frame.width == 0) {
      const std::int64_t stored = chunk_starts[chunk + 1] - chunk_starts[chunk] - kChunkHeader;
      put(put(out + chunk_starts[chunk], static_cast<std::uint32_t>(stored)), ~checksums[chunk]);
    }
    to[0] = static_cast<std::uint8_t>(known.kind);
    if (known.kind == kConstant) to[1] = static_cast<std::uint8_t>(known.symbol);
    if (known.kind == kStatic) {
      std::uint8_t* next = put_table(to + 1, coded.slices + section * kSymbols);
      *next++ = static_cast<std::uint8_t>(known.lanes_log2);
      for (int lane = 0; lane < lanes; ++lane) next = put_varint(next, static_cast<std::uint32_t>(words[lane]));
    }
  }
  if (known.kind == kRaw) copy(to + 1, planes + section_start(frame, section), n);
  if (known.kind != kStatic) return;
  std::int64_t at = 2 + known.table;
  for (int lane = 0; lane < lanes; ++lane) at += varint_bytes(words[lane]);
  const std::uint16_t* const first = coded.words + section * scratch_words + 1;
  for (int lane = 0; lane < lanes; ++lane) {
    const auto* const from = reinterpret_cast<const std::uint8_t*>(first + lane * lane_capacity(n, lanes));
    copy(to + at, from, 2 * std::int64_t{words[lane]});
    at += 2 * std::int64_t{words[lane]};
  }
}

}  // namespace

void encode_sections(const std::uint8_t* planes, const std::uint32_t* counts, const Frame& frame, const Coded& coded,
                     CUstream_st* stream) {
  if (frame.size == 0) return;
  require_blocks(frame.sections());
  MODEL_FORENSICS_LAUNCH(model_kernel, frame.sections(), kWarp, kSymbols * sizeof(std::int64_t), stream, counts, frame,
                         coded);
  MODEL_FORENSICS_LAUNCH(encode_kernel, frame.sections(), kWarp, kSymbols * sizeof(std::uint32_t), stream, planes, frame,
                         coded, section_words(frame));
  check_launch();
}

void write_sections(const std::uint8_t* planes, const std::uint32_t* checksums, const Frame& frame, const Coded& coded,
                    const std::int64_t* chunk_starts, const std::int64_t* section_starts, std::uint8_t* out,
                    CUstream_st* stream) {
  if (frame.size == 0) return;
  require_blocks(frame.sections());
  MODEL_FORENSICS_LAUNCH(write_kernel, frame.sections(), kWriteThreads, 0, stream, planes, checksums, frame, coded,
                         chunk_starts, section_starts, out, section_words(frame));
  check_launch();
}

}  // namespace model_forensics::cuda
