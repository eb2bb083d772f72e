// The arithmetic coder with the static and the adaptive model, on the GPU. The stream is specified in
// docs/stream-format.md; it has the bytes that csrc/core makes.
//
// All pointers are to device memory. Launches are asynchronous on `stream`; what a launch reports at once is thrown.
// The caller makes and checks the 24 bytes of the frame's header, and copies between host and device.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace model_forensics::cuda {

// How data is cut: chunks of `chunk` bytes, each of `width` planes; a plane of a chunk is a section. `chunk` is a
// multiple of `width`, at most 2^24.
struct Frame {
  std::int64_t size;   // bytes of the data
  std::int64_t chunk;  // bytes of every chunk but the last
  int width;           // bytes of an element: 1, 2 or 4

  constexpr std::int64_t chunks() const { return size / chunk + (size % chunk != 0 ? 1 : 0); }
  constexpr std::int64_t sections() const { return chunks() * width; }
};

// What the encoder is asked for, with its number in the stream.
enum class Model : std::int32_t { fixed = 0, adaptive = 1 };

// What the encoder knows of a section.
struct Section {
  std::int32_t kind;
  std::int32_t lanes_log2;
  std::int32_t table;   // bytes of the table in the stream
  std::int32_t symbol;  // of a constant section
};

inline constexpr int kLanes = 32;  // of a section, at most

// 16-bit words of scratch that a section needs.
std::int64_t section_words(const Frame& frame, Model model);

// Adds how often each symbol occurs to counts [sections, 256]; with a width above 1 also writes the planes [size], chunk
// by chunk, those of a chunk one after the other.
void split_planes(const std::uint8_t* data, const Frame& frame, std::uint8_t* planes, std::uint32_t* counts,
                  CUstream_st* stream);

// The inverse. A rest of the last chunk that is shorter than an element is left alone.
void join_planes(const std::uint8_t* planes, const Frame& frame, std::uint8_t* data, CUstream_st* stream);

// CRC-32C of each chunk, before its final inversion, into checksums [chunks], which must be 0.
void chunk_checksums(const std::uint8_t* data, const Frame& frame, std::uint32_t* checksums, CUstream_st* stream);

// What encoding makes of the planes (of the data itself with a width of 1), section by section.
struct Coded {
  Model model;                // what is asked for
  Section* sections;          // [sections]
  std::uint32_t* slices;      // [sections, 256]: start | frequency << 16; of static sections
  std::uint16_t* words;       // [sections, section_words]
  std::int32_t* lane_words;   // [sections, kLanes]
  std::int64_t* sizes;        // [sections]: bytes in the stream
};

void encode_sections(const std::uint8_t* planes, const std::uint32_t* counts, const Frame& frame, const Coded& coded,
                     CUstream_st* stream);

// Chunk headers and sections, to where they belong: section_starts [sections] and chunk_starts [chunks + 1], the end
// of the last chunk included, count from `out`. The rest of the last chunk is left to the caller.
void write_sections(const std::uint8_t* planes, const std::uint32_t* checksums, const Frame& frame, const Coded& coded,
                    const std::int64_t* chunk_starts, const std::int64_t* section_starts, std::uint8_t* out,
                    CUstream_st* stream);

// What is wrong with a stream; the texts are the caller's.
enum Failure : std::int32_t {
  kSound = 0,
  kStreamEndsEarly = 1,
  kBytesFollow = 2,
  kSectionEndsEarly = 3,
  kUnknownKind = 4,
  kTooLarge = 5,
  kNoFrequency = 6,
  kFrequencySum = 7,
  kTooManyLanes = 8,
  kChunkSize = 9,
  kNotOnGpu = 10,  // nothing wrong: a conditional section, which only the CPU decodes
};

// Coded bytes on the device; all that is read of them is checked against `size`.
struct Stream {
  const std::uint8_t* bytes;
  std::int64_t size;
};

// Where each chunk begins, and the end, into starts [chunks + 1]; a Failure into failure[0]. The caller has checked that
// the stream is long enough for its number of chunks.
void find_chunks(const Stream& coded, const Frame& frame, std::int64_t* starts, std::int32_t* failure,
                 CUstream_st* stream);

// Checks every chunk: where its sections begin into sections [sections], its stored checksum into checksums [chunks], a
// Failure into failures [chunks]. The rest of the last chunk goes to `data`.
void read_sections(const Stream& coded, const Frame& frame, const std::int64_t* starts, std::int64_t* sections,
                   std::uint32_t* checksums, std::int32_t* failures, std::uint8_t* data, CUstream_st* stream);

// Decodes the sections of sound chunks into the planes (the data itself with a width of 1).
void decode_sections(const Stream& coded, const Frame& frame, const std::int64_t* starts, const std::int64_t* sections,
                     const std::int32_t* failures, std::uint8_t* planes, CUstream_st* stream);

}  // namespace model_forensics::cuda
