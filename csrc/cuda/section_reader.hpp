// Reads the head of a section with every check of the format. Used twice: to find where sections begin and whether they
// are sound, and by the warp that decodes one.
#pragma once

#include "section.hpp"

namespace model_forensics::cuda {

// A part of the stream. After the first failure nothing is read any more.
struct Reader {
  const std::uint8_t* bytes;
  std::int64_t at, end;
  std::int32_t failure = kSound;

  __device__ Reader(const Stream& coded, std::int64_t from, std::int64_t to) : bytes(coded.bytes), at(from), end(to) {}

  __device__ void fail(Failure reason) {
    if (failure == kSound) failure = reason;
    at = end;
  }

  // The position of the bytes that are taken.
  __device__ std::int64_t take(std::int64_t size) {
    const std::int64_t taken = at;
    if (size > end - at) {
      fail(kSectionEndsEarly);
    } else {
      at += size;
    }
    return taken;
  }

  __device__ unsigned byte() {
    const std::int64_t taken = take(1);
    return failure == kSound ? bytes[taken] : 0;
  }

  __device__ std::uint32_t varint(std::uint64_t most) {
    std::uint64_t value = 0;
    for (int shift = 0; shift <= 28; shift += 7) {
      const std::uint64_t group = byte();
      value |= (group & 0x7F) << shift;
      if (group < 0x80) {
        if (value > most) break;
        return static_cast<std::uint32_t>(value);
      }
    }
    fail(kTooLarge);
    return 0;
  }
};

// Of one section; positions count from the beginning of the stream.
struct Head {
  unsigned kind;
  unsigned symbol;     // of a constant one
  std::int64_t raw;    // where the symbols of a raw one are
  int lanes;
  std::uint32_t slices[kSymbols];  // start | frequency << 16; of a static one
  std::int64_t word[kLanes];       // where each lane's words are
  std::uint32_t words[kLanes];
};

__device__ inline void read_table(Reader& reader, Head& head) {
  const std::int64_t present = reader.take(kSymbols / 8);
  std::uint64_t total = 0;
  for (int s = 0; s < kSymbols && reader.failure == kSound; ++s) {
    std::uint32_t frequency = 0;
    if ((reader.bytes[present + s / 8] >> (s % 8)) & 1) {
      frequency = reader.varint(std::uint64_t{1} << kStaticBits);
      if (frequency == 0) reader.fail(kNoFrequency);
    }
    head.slices[s] = static_cast<std::uint32_t>(total) | frequency << 16;
    total += frequency;
  }
  if (total != std::uint64_t{1} << kStaticBits) reader.fail(kFrequencySum);
}

__device__ inline void read_lanes(Reader& reader, std::int64_t n, unsigned most_log2, Head& head) {
  const unsigned log2 = reader.byte();
  head.lanes = 1;
  if (log2 > most_log2) return reader.fail(kTooManyLanes);
  head.lanes = 1 << log2;
  for (int lane = 0; lane < head.lanes; ++lane) head.words[lane] = reader.varint(static_cast<std::uint64_t>(2 * n + 4));
  for (int lane = 0; lane < head.lanes; ++lane) head.word[lane] = reader.take(2 * std::int64_t{head.words[lane]});
}

// Leaves the reader behind the section. n: its symbols.
__device__ inline void read_section(Reader& reader, std::int64_t n, Head& head) {
  head.kind = reader.byte();
  if (reader.failure != kSound) return;
  if (head.kind == kRaw) {
    head.raw = reader.take(n);
  } else if (head.kind == kConstant) {
    head.symbol = reader.byte();
  } else if (head.kind == kStatic) {
    read_table(reader, head);
    if (reader.failure == kSound) read_lanes(reader, n, kMostLanesLog2, head);
  } else if (head.kind == kAdaptive) {
    read_lanes(reader, n, kMostAdaptiveLanesLog2, head);
  } else {
    reader.fail(head.kind == kConditional ? kNotOnGpu : kUnknownKind);
  }
}

}  // namespace model_forensics::cuda
