// First one thread finds the chunks and a thread a chunk checks its sections; then a warp decodes a section, a thread
// a lane.
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

struct Work {
  Head head;
  std::uint8_t symbol_at[1 << kStaticBits];
};

__device__ inline void decode_lane(const Stream& coded, const Work& work, std::int64_t n, int lane, std::uint8_t* symbols) {
  const int lanes = work.head.lanes;
  Decoder decoder(coded.bytes + work.head.word[lane], work.head.words[lane]);
  for (std::int64_t row = rows_of(n, lane, lanes); row > 0; --row, symbols += lanes) {
    const std::uint64_t r = decoder.range >> kStaticBits;
    const std::uint8_t found = work.symbol_at[decoder.position(r)];
    decoder.advance(r, work.head.slices[found]);
    *symbols = found;
  }
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
  if (work.head.kind != kStatic) {
    const bool raw = work.head.kind == kRaw;
    const std::uint8_t* const from = coded.bytes + (raw ? work.head.raw : 0);
#pragma unroll 8
    for (std::int64_t i = lane; i < n; i += kWarp) symbols[i] = raw ? from[i] : static_cast<std::uint8_t>(work.head.symbol);
    return;
  }
  for (int s = 0; s < kSymbols; ++s) {
    const std::uint32_t start = work.head.slices[s] & 0xFFFFU;
    const std::uint32_t frequency = work.head.slices[s] >> 16;
    for (std::uint32_t i = threadIdx.x; i < frequency; i += kWarp) work.symbol_at[start + i] = static_cast<std::uint8_t>(s);
  }
  __syncwarp();
  if (lane < work.head.lanes) decode_lane(coded, work, n, lane, symbols + lane);
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
