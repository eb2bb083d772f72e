// A warp a section: its lanes are the warp's. First the static frequencies, then the words of each lane into scratch
// memory, then, when the sizes are known, everything to its place.
#include "adaptive_model.hpp"
#include "device.hpp"
#include "section.hpp"
#include "static_model.hpp"

namespace model_forensics::cuda {

namespace {

constexpr int kAhead = 16;  // symbols that a lane loads before it needs them
constexpr int kWriteThreads = 256;
constexpr int kWriteParts = 8;  // blocks that copy a section

// Memory of bytes, read and written as words.
typedef std::uint32_t __attribute__((may_alias)) Word;

__device__ __forceinline__ int varint_bytes(std::int64_t value) {
  int bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

__device__ __forceinline__ bool is_coded(std::int32_t kind) { return kind == kStatic || kind == kAdaptive; }

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
  if (coded.model == Model::adaptive) {
    const int lanes = lanes_log2(counts, frequencies, kMostAdaptiveLanesLog2);
    if (threadIdx.x == 0) coded.sections[section] = {kAdaptive, lanes, 0, 0};
    return;
  }
  std::uint32_t width = 0;
  std::int64_t table = 0;
  for (int k = 0; k < kOwn; ++k) {
    width += frequencies[k];
    if (frequencies[k] > 0) table += varint_bytes(frequencies[k]);
  }
  table = kSymbols / 8 + warp_sum(table);
  const int lanes = lanes_log2(counts, frequencies, kMostLanesLog2);
  std::uint32_t start = sum_before(width);
  for (int k = 0; k < kOwn; ++k) {
    coded.slices[section * kSymbols + first + k] = start | frequencies[k] << 16;
    start += frequencies[k];
  }
  if (threadIdx.x == 0) coded.sections[section] = {kStatic, lanes, static_cast<std::int32_t>(table), 0};
}

// Every `lanes`-th of the symbols, `rows` of them. They come from far, so a group is loaded while the one before is coded.
// With the lanes known when this is compiled (kKnown, or 0), their places are constants.
template <int kTotalBits, int kKnown, typename SliceOf>
__device__ __forceinline__ void encode_rows(const std::uint8_t* symbols, std::int64_t rows, int given, SliceOf slice_of,
                                            Encoder& encoder) {
  const int lanes = kKnown > 0 ? kKnown : given;
  std::uint8_t ahead[kAhead] = {};
  const auto load = [&] {
#pragma unroll
    for (int k = 0; k < kAhead; ++k) ahead[k] = symbols[k * lanes];
    symbols += kAhead * lanes;
  };
  std::int64_t groups = rows / kAhead;
  if (groups > 0) load();
  for (; groups > 0; --groups) {
    std::uint8_t now[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) now[k] = ahead[k];
    if (groups > 1) load();
#pragma unroll
    for (int k = 0; k < kAhead; ++k) encoder.encode<kTotalBits>(slice_of(now[k]));
  }
  for (int left = static_cast<int>(rows % kAhead); left > 0; --left, symbols += lanes) {
    encoder.encode<kTotalBits>(slice_of(*symbols));
  }
}

template <int kTotalBits, int kMostLanes, typename SliceOf>
__device__ __forceinline__ void encode_lane(const std::uint8_t* symbols, std::int64_t rows, int lanes, SliceOf slice_of,
                                            Encoder& encoder) {
  if (lanes == kMostLanes) {  // as all but small sections have
    encode_rows<kTotalBits, kMostLanes>(symbols, rows, lanes, slice_of, encoder);
  } else {
    encode_rows<kTotalBits, 0>(symbols, rows, lanes, slice_of, encoder);
  }
}

// `known_slices` [256]; room for as many is at `memory`.
__device__ inline void encode_static(const std::uint8_t* symbols, std::int64_t n, int lanes,
                                     const std::uint32_t* known_slices, unsigned char* memory, Encoder& encoder) {
  auto* const slices = reinterpret_cast<std::uint32_t*>(memory);
  const int lane = static_cast<int>(threadIdx.x);
  for (int s = lane; s < kSymbols; s += kWarp) slices[s] = known_slices[s];
  __syncwarp();
  if (lane >= lanes) return;
  const auto slice_of = [slices](std::uint8_t symbol) { return unpack(slices[symbol]); };
  encode_lane<kStaticBits, 1 << kMostLanesLog2>(symbols + lane, rows_of(n, lane, lanes), lanes, slice_of, encoder);
}

__device__ inline void encode_adaptive(const std::uint8_t* symbols, std::int64_t n, int lanes, unsigned char* memory,
                                       Encoder& encoder) {
  auto& model = *reinterpret_cast<AdaptiveModel*>(memory);
  const int lane = static_cast<int>(threadIdx.x);
  const auto slice_of = [&model](std::uint8_t symbol) {
    atomicAdd(model.counts + symbol, std::uint32_t{1});
    return model.slices[symbol];
  };
  each_adaptive_block(model, n, [&](std::int64_t first, std::int64_t size) {
    if (lane >= lanes) return;
    encode_lane<kAdaptiveBits, 1 << kMostAdaptiveLanesLog2>(symbols + first + lane, rows_of(size, lane, lanes), lanes, slice_of, encoder);
  });
}

__global__ void __launch_bounds__(kWarp) encode_kernel(const std::uint8_t* planes, Frame frame, Coded coded,
                                                       std::int64_t scratch_words) {
  MODEL_FORENSICS_SHARED(memory);
  const auto section = static_cast<std::int64_t>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t n = section_symbols(frame, section);
  Section known = coded.sections[section];
  std::int64_t size = known.kind == kConstant ? 2 : 1 + n;
  if (is_coded(known.kind)) {
    const int lanes = 1 << known.lanes_log2;
    const bool codes = lane < lanes;
    const std::int64_t capacity = lane_capacity(n, lanes, coded.model);
    std::uint16_t* const first = coded.words + section * scratch_words + (codes ? lane * capacity : 0);
    Encoder encoder(first);
    const std::uint8_t* const symbols = planes + section_start(frame, section);
    if (known.kind == kStatic) {
      encode_static(symbols, n, lanes, coded.slices + section * kSymbols, memory, encoder);
    } else {
      encode_adaptive(symbols, n, lanes, memory, encoder);
    }
    std::int64_t words = 0;
    if (codes) {
      encoder.finish();
      words = encoder.next - (first + 1);
      while (words > 0 && first[words] == 0) --words;  // read as 0 where they are missing
      coded.lane_words[section * kLanes + lane] = static_cast<std::int32_t>(words);
    }
    const std::int64_t coded_size = 2 + known.table + warp_sum(codes ? varint_bytes(words) + 2 * words : std::int64_t{0});
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

// The block's part of a copy. Neither address is aligned, so all but the ends is stored in words that are put together of
// two aligned ones.
__device__ inline void copy(std::uint8_t* to, const std::uint8_t* from, std::int64_t size) {
  constexpr std::int64_t kThreads = std::int64_t{kWriteParts} * kWriteThreads;
  constexpr int kAtOnce = 4;
  const auto thread = static_cast<std::int64_t>(blockIdx.x % kWriteParts * kWriteThreads + threadIdx.x);
  const std::int64_t head = smaller(size, 4 + (-reinterpret_cast<std::intptr_t>(to) & 3));
  const std::int64_t words = size - head >= 8 ? (size - head - 4) / 4 : 0;  // what they read lies within `from`
  const std::int64_t tail = head + 4 * words;
  auto* const target = reinterpret_cast<Word*>(to + head);
  const auto shift = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(from + head) & 3);
  const auto* const source = reinterpret_cast<const Word*>(from + head - shift);
  for (std::int64_t i = thread; i < words; i += kAtOnce * kThreads) {
    Word word[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t at = i + k * kThreads;
      word[k] = at < words ? __funnelshift_r(source[at], source[at + 1], 8 * shift) : 0;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (i + k * kThreads < words) target[i + k * kThreads] = word[k];
    }
  }
  if (thread < head) to[thread] = from[thread];
  if (thread < size - tail) to[tail + thread] = from[tail + thread];
}

__global__ void __launch_bounds__(kWriteThreads) write_kernel(const std::uint8_t* planes, const std::uint32_t* checksums,
                                                              Frame frame, Coded coded, const std::int64_t* chunk_starts,
                                                              const std::int64_t* section_starts, std::uint8_t* out,
                                                              std::int64_t scratch_words) {
  const auto section = static_cast<std::int64_t>(blockIdx.x / kWriteParts);
  const std::int64_t chunk = section / frame.width;
  const Section known = coded.sections[section];
  const std::int64_t n = section_symbols(frame, section);
  std::uint8_t* const to = out + section_starts[section];
  const std::int32_t* const words = coded.lane_words + section * kLanes;
  const int lanes = 1 << known.lanes_log2;
  if (threadIdx.x == 0 && blockIdx.x % kWriteParts == 0) {
    if (section % frame.width == 0) {
      const std::int64_t stored = chunk_starts[chunk + 1] - chunk_starts[chunk] - kChunkHeader;
      put(put(out + chunk_starts[chunk], static_cast<std::uint32_t>(stored)), ~checksums[chunk]);
    }
    to[0] = static_cast<std::uint8_t>(known.kind);
    if (known.kind == kConstant) to[1] = static_cast<std::uint8_t>(known.symbol);
    if (is_coded(known.kind)) {
      std::uint8_t* next = to + 1;
      if (known.kind == kStatic) next = put_table(next, coded.slices + section * kSymbols);
      *next++ = static_cast<std::uint8_t>(known.lanes_log2);
      for (int lane = 0; lane < lanes; ++lane) next = put_varint(next, static_cast<std::uint32_t>(words[lane]));
    }
  }
  if (known.kind == kRaw) copy(to + 1, planes + section_start(frame, section), n);
  if (!is_coded(known.kind)) return;
  const std::int64_t capacity = lane_capacity(n, lanes, coded.model);
  std::int64_t at = 2 + known.table;
  for (int lane = 0; lane < lanes; ++lane) at += varint_bytes(words[lane]);
  const std::uint16_t* const first = coded.words + section * scratch_words + 1;
  for (int lane = 0; lane < lanes; ++lane) {
    const auto* const from = reinterpret_cast<const std::uint8_t*>(first + lane * capacity);
    copy(to + at, from, 2 * std::int64_t{words[lane]});
    at += 2 * std::int64_t{words[lane]};
  }
}

}  // namespace

// All symbols in one lane, and what every lane needs besides.
std::int64_t section_words(const Frame& frame, Model model) {
  return lane_capacity(frame.chunk / frame.width, 1, model) + kLanes * lane_capacity(0, 1, model);
}

void encode_sections(const std::uint8_t* planes, const std::uint32_t* counts, const Frame& frame, const Coded& coded,
                     CUstream_st* stream) {
  if (frame.size == 0) return;
  require_blocks(frame.sections());
  MODEL_FORENSICS_LAUNCH(model_kernel, frame.sections(), kWarp, kSymbols * sizeof(std::int64_t), stream, counts, frame,
                         coded);
  const std::size_t model = coded.model == Model::adaptive ? sizeof(AdaptiveModel) : kSymbols * sizeof(std::uint32_t);
  MODEL_FORENSICS_LAUNCH(encode_kernel, frame.sections(), kWarp, model, stream, planes, frame, coded,
                         section_words(frame, coded.model));
  check_launch();
}

void write_sections(const std::uint8_t* planes, const std::uint32_t* checksums, const Frame& frame, const Coded& coded,
                    const std::int64_t* chunk_starts, const std::int64_t* section_starts, std::uint8_t* out,
                    CUstream_st* stream) {
  if (frame.size == 0) return;
  require_blocks(frame.sections() * kWriteParts);
  MODEL_FORENSICS_LAUNCH(write_kernel, frame.sections() * kWriteParts, kWriteThreads, 0, stream, planes, checksums, frame, coded,
                         chunk_starts, section_starts, out, section_words(frame, coded.model));
  check_launch();
}

}  // namespace model_forensics::cuda
