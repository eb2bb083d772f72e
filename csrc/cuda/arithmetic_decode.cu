// First one thread finds the chunks and a thread a chunk checks its sections; then a warp decodes a section, a thread
// a lane.
#include "adaptive_model.hpp"
#include "device.hpp"
#include "section.hpp"
#include "section_reader.hpp"

namespace model_forensics::cuda {

namespace {

__device__ inline std::uint32_t get(const std::uint8_t* at) {
  std::uint32_t value = 0;
  for (int byte = 0; byte < 4; ++byte) value |= std::uint32_t{at[byte]} << (8 * byte);
  return value;
}

// The chunks behind a failure begin, and end, where it is; nothing reads them.
__global__ void find_kernel(Stream coded, std::int64_t chunks, std::int64_t* starts, std::int32_t* failure) {
  std::int64_t at = kStreamHeader;
  std::int32_t found = kSound;
  starts[0] = at;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t left = coded.size - at;
    if (found == kSound && (left < kChunkHeader || get(coded.bytes + at) > left - kChunkHeader)) found = kStreamEndsEarly;
    if (found == kSound) at += kChunkHeader + get(coded.bytes + at);
    starts[chunk + 1] = at;
  }
  if (found == kSound && at != coded.size) found = kBytesFollow;
  *failure = found;
}

__global__ void __launch_bounds__(kWarp) read_kernel(Stream coded, Frame frame, std::int64_t chunks,
                                                     const std::int64_t* starts, std::int64_t* sections, std::uint32_t* checksums,
                                                     std::int32_t* failures, std::uint8_t* data) {
  const std::int64_t chunk = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  if (chunk >= chunks) return;
  Reader reader(coded, starts[chunk] + kChunkHeader, starts[chunk + 1]);
  const std::int64_t size = chunk_bytes(frame, chunk);
  Head head;
  for (int plane = 0; plane < frame.width; ++plane) {
    sections[chunk * frame.width + plane] = reader.at;
    read_section(reader, size / frame.width, head);
  }
  const std::int64_t rest = size % frame.width;
  if (reader.failure == kSound && reader.end - reader.at != rest) reader.fail(kChunkSize);
  failures[chunk] = reader.failure;
  checksums[chunk] = get(coded.bytes + starts[chunk] + 4);
  if (reader.failure != kSound) return;
  for (std::int64_t i = 0; i < rest; ++i) data[chunk * frame.chunk + size - rest + i] = coded.bytes[reader.at + i];
}

constexpr int kBucketBits = 7;  // positions of an adaptive section that share an entry of its index

struct Work {
  Head head;
  union {
    std::uint8_t symbol_at[1 << kStaticBits];
    struct {
      AdaptiveModel model;
      std::uint8_t first[1 << (kAdaptiveBits - kBucketBits)];  // the symbol at the first position of each bucket
    } adaptive;
  };
};

// index[i]: the symbol at position i << kShift. All of the warp.
template <int kShift, typename SliceOf>
__device__ __forceinline__ void index_positions(SliceOf slice_of, std::uint8_t* index) {
  const auto up = [](std::uint32_t position) { return (position + (1U << kShift) - 1) >> kShift; };
  for (int s = 0; s < kSymbols; ++s) {
    const Slice slice = slice_of(s);
    const std::uint32_t end = up(slice.start + slice.frequency);
    for (std::uint32_t i = up(slice.start) + threadIdx.x; i < end; i += kWarp) index[i] = static_cast<std::uint8_t>(s);
  }
  __syncwarp();
}

// Every `lanes`-th of the symbols, `rows` of them. find(position, slice) gives the symbol and its slice.
template <int kTotalBits, typename Find>
__device__ __forceinline__ void decode_lane(Decoder& decoder, std::int64_t rows, int lanes, std::uint8_t* symbols,
                                            Find find) {
  for (; rows > 0; --rows, symbols += lanes) {
    const std::uint64_t r = decoder.range >> kTotalBits;
    Slice slice;
    *symbols = static_cast<std::uint8_t>(find(decoder.position<kTotalBits>(r), slice));
    decoder.advance<kTotalBits>(r, slice);
  }
}

// A lane that the section lacks has no words.
__device__ __forceinline__ Decoder lane_decoder(const Stream& coded, const Head& head, int lane) {
  if (lane >= head.lanes) return {coded.bytes, 0};
  return {coded.bytes + head.word[lane], head.words[lane]};
}

__device__ inline void decode_static(const Stream& coded, Work& work, std::int64_t n, int lane, std::uint8_t* symbols) {
  index_positions<0>([&work](int s) { return unpack(work.head.slices[s]); }, work.symbol_at);
  const int lanes = work.head.lanes;
  if (lane >= lanes) return;
  Decoder decoder = lane_decoder(coded, work.head, lane);
  decode_lane<kStaticBits>(decoder, rows_of(n, lane, lanes), lanes, symbols + lane, [&work](int position, Slice& slice) {
    const int found = work.symbol_at[position];
    slice = unpack(work.head.slices[found]);
    return found;
  });
}

__device__ inline void decode_adaptive(const Stream& coded, Work& work, std::int64_t n, int lane, std::uint8_t* symbols) {
  AdaptiveModel& model = work.adaptive.model;
  const int lanes = work.head.lanes;
  Decoder decoder = lane_decoder(coded, work.head, lane);
  // Positions are below 2^20, where the last slice ends.
  const auto find = [&](int position, Slice& slice) {
    int found = work.adaptive.first[position >> kBucketBits];
    slice = model.slices[found];
    while (slice.start + slice.frequency <= static_cast<std::uint32_t>(position)) slice = model.slices[++found];
    atomicAdd(model.counts + found, std::uint32_t{1});
    return found;
  };
  each_adaptive_block(model, n, [&](std::int64_t first, std::int64_t size) {
    index_positions<kBucketBits>([&model](int s) { return model.slices[s]; }, work.adaptive.first);
    if (lane >= lanes) return;
    decode_lane<kAdaptiveBits>(decoder, rows_of(size, lane, lanes), lanes, symbols + first + lane, find);
  });
}

__global__ void __launch_bounds__(kWarp) decode_kernel(Stream coded, Frame frame, const std::int64_t* starts,
                                                       const std::int64_t* sections, const std::int32_t* failures,
                                                       std::uint8_t* planes) {
  MODEL_FORENSICS_SHARED(memory);
  auto& work = *reinterpret_cast<Work*>(memory);
  const auto section = static_cast<std::int64_t>(blockIdx.x);
  const std::int64_t chunk = section / frame.width;
  if (failures[chunk] != kSound) return;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t n = section_symbols(frame, section);
  std::uint8_t* const symbols = planes + section_start(frame, section);
  if (lane == 0) {
    Reader reader(coded, sections[section], starts[chunk + 1]);
    read_section(reader, n, work.head);
  }
  __syncwarp();
  if (work.head.kind == kStatic) return decode_static(coded, work, n, lane, symbols);
  if (work.head.kind == kAdaptive) return decode_adaptive(coded, work, n, lane, symbols);
  const bool raw = work.head.kind == kRaw;
  const std::uint8_t* const from = coded.bytes + (raw ? work.head.raw : 0);
#pragma unroll 8
  for (std::int64_t i = lane; i < n; i += kWarp) symbols[i] = raw ? from[i] : static_cast<std::uint8_t>(work.head.symbol);
}

}  // namespace

void find_chunks(const Stream& coded, const Frame& frame, std::int64_t* starts, std::int32_t* failure,
                 CUstream_st* stream) {
  MODEL_FORENSICS_LAUNCH(find_kernel, 1, 1, 0, stream, coded, frame.chunks(), starts, failure);
  check_launch();
}

void read_sections(const Stream& coded, const Frame& frame, const std::int64_t* starts, std::int64_t* sections,
                   std::uint32_t* checksums, std::int32_t* failures, std::uint8_t* data, CUstream_st* stream) {
  if (frame.size == 0) return;
  const std::int64_t blocks = (frame.chunks() + kWarp - 1) / kWarp;
  require_blocks(blocks);
  MODEL_FORENSICS_LAUNCH(read_kernel, blocks, kWarp, 0, stream, coded, frame, frame.chunks(), starts,
                         sections, checksums, failures, data);
  check_launch();
}

void decode_sections(const Stream& coded, const Frame& frame, const std::int64_t* starts, const std::int64_t* sections,
                     const std::int32_t* failures, std::uint8_t* planes, CUstream_st* stream) {
  if (frame.size == 0) return;
  require_blocks(frame.sections());
  MODEL_FORENSICS_LAUNCH(decode_kernel, frame.sections(), kWarp, sizeof(Work), stream, coded, frame, starts, sections,
                         failures, planes);
  check_launch();
}

}  // namespace model_forensics::cuda
