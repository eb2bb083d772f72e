#include <algorithm>
#include <string>

#include "../../core/arithmetic.hpp"
#include "arithmetic.hpp"
#include "check.hpp"

namespace emulation_check {

namespace {

namespace core = model_forensics;

using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t kHeader = 24;

int width_of(core::Element element) {
  constexpr int kWidths[] = {1, 4, 2, 2};
  return kWidths[static_cast<int>(element)];
}

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

// The chunks of the stream of `data`, in chunks of any size: each is what the core makes of that piece alone.
Bytes reference(const Bytes& data, core::Element element, core::SymbolModel model, std::int64_t chunk) {
  Bytes chunks;
  for (std::size_t first = 0; first < data.size(); first += to_size(chunk)) {
    const auto piece = std::span(data).subspan(first, std::min(to_size(chunk), data.size() - first));
    const Bytes made = core::arithmetic_encode(piece, element, model);
    chunks.insert(chunks.end(), made.begin() + kHeader, made.end());
  }
  return chunks;
}

// What the Python module does around the kernels, on the data from `skip` on: unaligned where skip is odd.
Bytes encode(const Bytes& data, const cuda::Frame& frame, cuda::Model model, std::size_t skip) {
  Bytes moved(skip);
  moved.insert(moved.end(), data.begin(), data.end());
  const std::uint8_t* const from = moved.data() + skip;
  const auto sections = to_size(frame.sections());
  const auto chunks = to_size(frame.chunks());
  Bytes planes(frame.width > 1 ? data.size() : 0);
  std::vector<std::uint32_t> counts(sections * 256), checksums(chunks), slices(sections * 256, 0xA5A5A5A5U);
  std::vector<cuda::Section> known(sections);
  std::vector<std::uint16_t> words(sections * to_size(cuda::section_words(frame, model)), 0xA5A5);
  std::vector<std::int32_t> lane_words(sections * cuda::kLanes, 0x5A5A5A5A);
  std::vector<std::int64_t> sizes(sections), chunk_starts(chunks + 1), section_starts(sections);
  const cuda::Coded coded{model, known.data(), slices.data(), words.data(), lane_words.data(), sizes.data()};
  cuda::split_planes(from, frame, planes.data(), counts.data(), nullptr);
  const std::uint8_t* const symbols = frame.width > 1 ? planes.data() : from;
  cuda::encode_sections(symbols, counts.data(), frame, coded, nullptr);
  cuda::chunk_checksums(from, frame, checksums.data(), nullptr);
  const auto rest = frame.size % frame.width;
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    std::int64_t at = chunk_starts[chunk] + 8;
    for (std::size_t s = chunk * to_size(frame.width); s < (chunk + 1) * to_size(frame.width); ++s) {
      section_starts[s] = at;
      at += sizes[s];
    }
    chunk_starts[chunk + 1] = at + (chunk + 1 == chunks ? rest : 0);
  }
  Bytes out(to_size(chunk_starts.back()), 0xA5);
  cuda::write_sections(symbols, checksums.data(), frame, coded, chunk_starts.data(), section_starts.data(), out.data(),
                       nullptr);
  std::copy(data.end() - rest, data.end(), out.end() - rest);
  return out;
}

// The first failure, or -1 for a checksum that differs; `data` is filled.
int decode(const Bytes& stream, const cuda::Frame& frame, Bytes& data) {
  const auto sections = to_size(frame.sections());
  const auto chunks = to_size(frame.chunks());
  const cuda::Stream coded{stream.data(), static_cast<std::int64_t>(stream.size())};
  std::vector<std::int64_t> starts(chunks + 1), found(sections);
  std::vector<std::int32_t> failures(chunks);
  std::vector<std::uint32_t> expected(chunks), checksums(chunks);
  std::int32_t failure = 0;
  cuda::find_chunks(coded, frame, starts.data(), &failure, nullptr);
  if (failure != cuda::kSound) return failure;
  data.assign(to_size(frame.size), 0xA5);
  Bytes planes(frame.width > 1 ? data.size() : 0);
  cuda::read_sections(coded, frame, starts.data(), found.data(), expected.data(), failures.data(), data.data(), nullptr);
  cuda::decode_sections(coded, frame, starts.data(), found.data(), failures.data(),
                        frame.width > 1 ? planes.data() : data.data(), nullptr);
  for (const int one : failures) {
    if (one != cuda::kSound) return one;
  }
  cuda::join_planes(planes.data(), frame, data.data(), nullptr);
  cuda::chunk_checksums(data.data(), frame, checksums.data(), nullptr);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    if (expected[chunk] != ~checksums[chunk]) return -1;
  }
  return cuda::kSound;
}

// The kinds of data that take different ways: noise, few symbols, one symbol, one that is rare, many that are rare.
Bytes make_bytes(std::mt19937& random, std::size_t size, int kind) {
  Bytes data(size);
  for (std::size_t i = 0; i < size; ++i) {
    const auto r = static_cast<std::uint32_t>(random());
    const std::uint32_t skewed = (r & (r >> 8) & (r >> 16) & (r >> 24)) & 0xFFU;
    const std::uint32_t rare = i % 1000 == 7 ? r & 0xFFU : (r & 3U) | 0x7CU;
    const std::uint32_t made[] = {r & 0xFFU, skewed, 0x42U, i == size / 2 ? 7U : 9U, rare};
    data[i] = static_cast<std::uint8_t>(made[kind]);
  }
  return data;
}

Bytes framed(const Bytes& chunks) {
  Bytes stream(kHeader, 0xA5);  // the header is the caller's
  stream.insert(stream.end(), chunks.begin(), chunks.end());
  return stream;
}

void check_model(const Bytes& data, core::Element element, cuda::Model model, std::int64_t chunk, std::size_t skip) {
  const cuda::Frame frame{static_cast<std::int64_t>(data.size()), chunk, width_of(element)};
  const Bytes wanted = reference(data, element, static_cast<core::SymbolModel>(model), chunk);
  expect(encode(data, frame, model, skip) == wanted, "the GPU makes the core's stream");
  Bytes decoded;
  expect(decode(framed(wanted), frame, decoded) == cuda::kSound && decoded == data, "the GPU decodes the stream");
}

void check_round(const Bytes& data, core::Element element, std::int64_t chunk, std::size_t skip) {
  for (const auto model : {cuda::Model::fixed, cuda::Model::adaptive}) check_model(data, element, model, chunk, skip);
}

void check_sizes() {
  std::mt19937 random(11);
  using enum core::Element;
  for (const auto element : {bytes, float32, float16, bfloat16}) {
    for (int kind = 0; kind < 5; ++kind) {
      for (const std::size_t size : {0U, 1U, 2U, 3U, 4U, 5U, 63U, 71U, 1000U, 4097U}) {
        check_round(make_bytes(random, size, kind), element, 256, size % 2);
      }
      check_model(make_bytes(random, 70003, kind), element, cuda::Model::fixed, 1 << 22, 1);
      check_model(make_bytes(random, 40001, kind), element, cuda::Model::fixed, 20004, 0);
    }
  }
  for (int kind = 0; kind < 5; ++kind) {  // every block of the adaptive model takes the emulation long
    check_model(make_bytes(random, 70003, kind), bytes, cuda::Model::adaptive, 1 << 22, 1);
    check_model(make_bytes(random, 40001, kind), bfloat16, cuda::Model::adaptive, 20004, 0);
  }
  check_round(make_bytes(random, 1 << 20, 1), core::Element::bytes, 1 << 22, 0);      // many lanes
  check_round(make_bytes(random, 1 << 20, 1), core::Element::float32, 1 << 22, 0);
  check_round(make_bytes(random, 300001, 4), core::Element::float16, 100002, 0);
}

// Whatever is damaged: a failure, or a checksum that differs, or (where a bit means nothing) the data. Never an access
// outside, which the sanitizer would see.
void check_damage() {
  std::mt19937 random(12);
  for (int trial = 0; trial < 1500; ++trial) {
    const bool wide = trial % 2 == 0;
    const std::size_t size = 1 + random() % (trial % 50 == 0 ? 40000 : 900);
    const Bytes data = make_bytes(random, size, trial % 5);
    const cuda::Frame frame{static_cast<std::int64_t>(size), 512, wide ? 4 : 1};
    const auto element = wide ? core::Element::float32 : core::Element::bytes;
    const auto model = trial % 4 == 3 ? core::SymbolModel::adaptive : core::SymbolModel::fixed;
    Bytes stream = framed(reference(data, element, model, 512));
    const auto at = kHeader + static_cast<std::ptrdiff_t>(random() % (stream.size() - kHeader));
    if (trial % 3 == 0) {
      stream.resize(to_size(at));
    } else {
      for (int i = 0; i < 1 + trial % 7; ++i) {
        const auto byte = std::min(to_size(at + i), stream.size() - 1);
        stream[byte] = static_cast<std::uint8_t>(random());
      }
    }
    stream.shrink_to_fit();
    Bytes decoded;
    const int result = decode(stream, frame, decoded);
    expect(result != cuda::kSound || decoded == data, "damage is noticed");
  }
}

void check_failures() {
  const Bytes data(100, 0x61);
  const cuda::Frame frame{100, 1 << 22, 1};
  Bytes decoded;
  const auto result = [&](Bytes chunk) { return decode(framed(chunk), frame, decoded); };
  expect(result({9, 0, 0, 0, 0, 0, 0, 0, 1}) == cuda::kStreamEndsEarly, "a chunk longer than the stream");
  expect(result({2, 0, 0, 0, 0, 0, 0, 0, 1, 7, 7}) == cuda::kBytesFollow, "bytes behind the end");
  expect(result({1, 0, 0, 0, 0, 0, 0, 0, 1}) == cuda::kSectionEndsEarly, "a section that ends early");
  expect(result({2, 0, 0, 0, 0, 0, 0, 0, 5, 7}) == cuda::kUnknownKind, "an unknown kind");
  expect(result({3, 0, 0, 0, 0, 0, 0, 0, 1, 7, 7}) == cuda::kChunkSize, "bytes behind the sections");
  expect(result({2, 0, 0, 0, 0, 0, 0, 0, 4, 0}) == cuda::kNotOnGpu, "a conditional section is named");
  expect(result({2, 0, 0, 0, 0, 0, 0, 0, 1, 7}) == -1, "a checksum that differs");
  expect(result({2, 0, 0, 0, 0, 0, 0, 0, 3, 4}) == cuda::kTooManyLanes, "too many adaptive lanes");
  expect(result({4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0xFF, 0x7F}) == cuda::kTooLarge, "too many adaptive words");
  expect(result({5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 2, 0, 0}) == cuda::kSectionEndsEarly, "adaptive words that are missing");
  expect(result({3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0}) == -1, "adaptive words of another text");
  const auto table = [&](std::vector<std::uint8_t> behind) {
    Bytes chunk{0, 0, 0, 0, 0, 0, 0, 0, 2, 3};  // symbols 0 and 1
    chunk.resize(chunk.size() + 31);
    chunk.insert(chunk.end(), behind.begin(), behind.end());
    chunk[0] = static_cast<std::uint8_t>(chunk.size() - 8);
    return result(chunk);
  };
  expect(table({0, 1}) == cuda::kNoFrequency, "a frequency of 0");
  expect(table({1, 1, 0, 0}) == cuda::kFrequencySum, "frequencies that do not add up");
  expect(table({0xFF, 0xFF, 0x7F, 1}) == cuda::kTooLarge, "a frequency that is too large");
  expect(table({0x80, 0x40, 0x80, 0x40, 6}) == cuda::kTooManyLanes, "too many lanes");
  expect(table({0x80, 0x40, 0x80, 0x40, 255}) == cuda::kTooManyLanes, "far too many lanes");
  expect(table({0x80, 0x40, 0x80, 0x40, 0, 0xFF, 0x7F}) == cuda::kTooLarge, "too many words");
  expect(table({0x80, 0x40, 0x80, 0x40, 0, 2, 0, 0}) == cuda::kSectionEndsEarly, "words that are missing");
}

}  // namespace

void check_arithmetic() {
  check_sizes();
  check_damage();
  check_failures();
}

}  // namespace emulation_check
