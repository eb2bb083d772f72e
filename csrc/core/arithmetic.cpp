#include "arithmetic.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "crc32c.hpp"
#include "parallel.hpp"
#include "repeats.hpp"
#include "section.hpp"
#include "wire.hpp"

namespace model_forensics {

namespace {

constexpr std::array<std::uint8_t, 4> kMagic{'M', 'F', 'A', 'C'};
constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kRepeats = 1;  // flag: chunks begin with their repeats
constexpr std::size_t kHeader = 24;
constexpr std::size_t kChunkHeader = 8;
constexpr std::size_t kChunk = std::size_t{1} << 22;      // decoded bytes of a chunk that the encoder makes
constexpr std::size_t kMostChunk = std::size_t{1} << 24;  // that the decoder accepts

struct Header {
  Element element;
  std::uint64_t size;
  std::size_t chunk;
  bool repeats;

  std::uint64_t chunks() const { return (size + chunk - 1) / chunk; }
  std::size_t chunk_size(std::uint64_t number) const {
    return static_cast<std::size_t>(std::min<std::uint64_t>(chunk, size - number * chunk));
  }
};

std::size_t width_of(Element element) {
  switch (element) {
    case Element::bytes: return 1;
    case Element::float32: return 4;
    case Element::float16:
    case Element::bfloat16: return 2;
  }
  throw StreamError("the header names an unknown element");
}

void put(std::uint8_t* at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint64_t get(const std::uint8_t* at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value |= std::uint64_t{at[i]} << (8 * i);
  return value;
}

// --- planes: the sign moves to the lowest bit, so that the highest byte is the exponent's ----------------------------

template <typename Word>
void split(const std::uint8_t* data, std::size_t elements, std::uint8_t* planes) {
  constexpr std::size_t kWidth = sizeof(Word);
  for (std::size_t i = 0; i < elements; ++i) {
    Word word;
    std::memcpy(&word, data + i * kWidth, kWidth);
    word = static_cast<Word>((word << 1) | (word >> (8 * kWidth - 1)));
    for (std::size_t p = 0; p < kWidth; ++p) {
      planes[p * elements + i] = static_cast<std::uint8_t>(word >> (8 * (kWidth - 1 - p)));
    }
  }
}

template <typename Word>
void join(const std::uint8_t* planes, std::size_t elements, std::uint8_t* data) {
  constexpr std::size_t kWidth = sizeof(Word);
  for (std::size_t i = 0; i < elements; ++i) {
    Word word = 0;
    for (std::size_t p = 0; p < kWidth; ++p) word = static_cast<Word>((word << 7 << 1) | planes[p * elements + i]);
    word = static_cast<Word>((word >> 1) | (word << (8 * kWidth - 1)));
    std::memcpy(data + i * kWidth, &word, kWidth);
  }
}

// --- elements: their planes, each a section ---------------------------------------------------------------------------

void encode_elements(std::span<const std::uint8_t> data, std::size_t width, SymbolModel model,
                     std::vector<std::uint8_t>& chunk) {
  if (width == 1) return encode_section(data, model, chunk);
  const std::size_t elements = data.size() / width;
  std::vector<std::uint8_t> planes(data.size());
  if (width == 4) split<std::uint32_t>(data.data(), elements, planes.data());
  if (width == 2) split<std::uint16_t>(data.data(), elements, planes.data());
  const std::span<const std::uint8_t> all(planes);
  for (std::size_t p = 0; p < width; ++p) encode_section(all.subspan(p * elements, elements), model, chunk);
}

void decode_elements(Reader& reader, std::size_t width, std::span<std::uint8_t> data) {
  if (width == 1) return decode_section(reader, data);
  const std::size_t elements = data.size() / width;
  std::vector<std::uint8_t> planes(data.size());
  const std::span<std::uint8_t> all(planes);
  for (std::size_t p = 0; p < width; ++p) decode_section(reader, all.subspan(p * elements, elements));
  if (width == 4) join<std::uint32_t>(planes.data(), elements, data.data());
  if (width == 2) join<std::uint16_t>(planes.data(), elements, data.data());
}

// --- repeats ----------------------------------------------------------------------------------------------------------

// The elements without those that stood before, where that is shorter.
void encode_repeating(std::span<const std::uint8_t> data, std::size_t width, SymbolModel model,
                      std::vector<std::uint8_t>& chunk) {
  const std::size_t start = chunk.size();
  chunk.push_back(0);
  encode_elements(data, width, model, chunk);
  const auto repeats = find_repeats(data, width);
  if (repeats.empty()) return;
  std::vector<std::uint8_t> shorter;
  put_varint(shorter, repeats.size());
  for (const auto& repeat : repeats) {
    for (const std::size_t number : {repeat.gap, repeat.length, repeat.distance}) put_varint(shorter, number);
  }
  encode_elements(without_repeats(data, width, repeats), width, model, shorter);
  if (shorter.size() >= chunk.size() - start) return;
  chunk.resize(start);
  chunk.insert(chunk.end(), shorter.begin(), shorter.end());
}

std::vector<Repeat> get_repeats(Reader& reader, std::size_t elements) {
  const auto count = static_cast<std::size_t>(reader.varint(kMostChunk));
  if (count > reader.left().size() / 3) throw StreamError("a section ends early");
  std::vector<Repeat> repeats(count);
  std::size_t at = 0;
  for (auto& repeat : repeats) {
    repeat.gap = static_cast<std::size_t>(reader.varint(elements - at));
    at += repeat.gap;
    repeat.length = static_cast<std::size_t>(reader.varint(elements - at));
    repeat.distance = static_cast<std::size_t>(reader.varint(at));
    if (repeat.distance == 0) throw StreamError("a repeat repeats itself");
    at += repeat.length;
  }
  return repeats;
}

void decode_repeating(Reader& reader, std::size_t width, std::span<std::uint8_t> data) {
  const auto repeats = get_repeats(reader, data.size() / width);
  if (repeats.empty()) return decode_elements(reader, width, data);
  std::vector<std::uint8_t> left(data.size() - repeated(repeats) * width);
  decode_elements(reader, width, left);
  with_repeats(left, width, repeats, data);
}

// --- chunks -----------------------------------------------------------------------------------------------------------

std::vector<std::uint8_t> encode_chunk(std::span<const std::uint8_t> data, std::size_t width, SymbolModel model) {
  const auto elements = data.first(data.size() / width * width);
  std::vector<std::uint8_t> chunk(kChunkHeader);
  chunk.reserve(kChunkHeader + data.size() + width + 1);  // sections are at most a byte longer than their planes
  if (model == SymbolModel::conditional) {
    encode_repeating(elements, width, model, chunk);
  } else {
    encode_elements(elements, width, model, chunk);
  }
  const auto rest = data.subspan(elements.size());
  chunk.insert(chunk.end(), rest.begin(), rest.end());
  put(chunk.data(), chunk.size() - kChunkHeader, 4);
  put(chunk.data() + 4, crc32c(data), 4);
  return chunk;
}

void decode_chunk(std::span<const std::uint8_t> chunk, const Header& header, std::span<std::uint8_t> data) {
  const std::size_t width = width_of(header.element);
  const auto elements = data.first(data.size() / width * width);
  Reader reader(chunk.subspan(kChunkHeader));
  if (header.repeats) {
    decode_repeating(reader, width, elements);
  } else {
    decode_elements(reader, width, elements);
  }
  const auto rest = data.subspan(elements.size());
  if (reader.left().size() != rest.size()) throw StreamError("a chunk has another size than its sections");
  std::copy(reader.left().begin(), reader.left().end(), rest.begin());
  if (crc32c(data) != get(chunk.data() + 4, 4)) throw StreamError("the decoded bytes differ from their checksum");
}

Header read_header(std::span<const std::uint8_t> stream) {
  if (stream.size() < kHeader) throw StreamError("it is shorter than a header");
  if (!std::equal(kMagic.begin(), kMagic.end(), stream.begin())) throw StreamError("it does not begin with 'MFAC'");
  if (stream[4] != kVersion) {
    throw StreamError("its version is " + std::to_string(stream[4]) + ", this release reads 1");
  }
  if (get(stream.data() + 20, 4) != crc32c(stream.first(20))) throw StreamError("its header is damaged");
  const Header header{static_cast<Element>(stream[5]), get(stream.data() + 8, 8),
                      static_cast<std::size_t>(get(stream.data() + 16, 4)), stream[7] == kRepeats};
  if (stream[6] > 2 || stream[7] > kRepeats) throw StreamError("its header holds flags of another version");
  const std::size_t width = width_of(header.element);
  if (header.chunk == 0 || header.chunk > kMostChunk || header.chunk % width != 0) {
    throw StreamError("its chunks have an impossible size");
  }
  return header;
}

// Where each chunk begins, and the end. The number of chunks is checked against the stream before memory is taken.
std::vector<std::size_t> find_chunks(std::span<const std::uint8_t> stream, const Header& header) {
  const std::size_t room = (stream.size() - kHeader) / (kChunkHeader + 1);
  if (header.size > static_cast<std::uint64_t>(room) * header.chunk) throw StreamError("it ends early");
  std::vector<std::size_t> starts{kHeader};
  for (std::uint64_t number = 0; number < header.chunks(); ++number) {
    const std::size_t left = stream.size() - starts.back();
    if (left < kChunkHeader) throw StreamError("it ends early");
    const auto stored = static_cast<std::size_t>(get(stream.data() + starts.back(), 4));
    if (stored > left - kChunkHeader) throw StreamError("it ends early");
    starts.push_back(starts.back() + kChunkHeader + stored);
  }
  if (starts.back() != stream.size()) throw StreamError("bytes follow its end");
  return starts;
}

}  // namespace

std::vector<std::uint8_t> arithmetic_encode(std::span<const std::uint8_t> data, Element element, SymbolModel model) {
  const Header header{element, data.size(), kChunk, model == SymbolModel::conditional};
  std::vector<std::vector<std::uint8_t>> chunks(static_cast<std::size_t>(header.chunks()));
  const std::size_t width = width_of(element);
  parallel_for(static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      chunks[i] = encode_chunk(data.subspan(i * kChunk, header.chunk_size(i)), width, model);
    }
  });
  std::size_t size = kHeader;
  for (const auto& chunk : chunks) size += chunk.size();
  std::vector<std::uint8_t> stream(kHeader);
  stream.reserve(size);
  std::copy(kMagic.begin(), kMagic.end(), stream.begin());
  stream[4] = kVersion;
  stream[5] = static_cast<std::uint8_t>(element);
  stream[6] = static_cast<std::uint8_t>(model);
  stream[7] = header.repeats ? kRepeats : 0;
  put(stream.data() + 8, header.size, 8);
  put(stream.data() + 16, header.chunk, 4);
  put(stream.data() + 20, crc32c(std::span<const std::uint8_t>(stream).first(20)), 4);
  for (const auto& chunk : chunks) stream.insert(stream.end(), chunk.begin(), chunk.end());
  return stream;
}

std::int64_t decoded_size(std::span<const std::uint8_t> stream) {
  const Header header = read_header(stream);
  find_chunks(stream, header);
  return static_cast<std::int64_t>(header.size);
}

void arithmetic_decode(std::span<const std::uint8_t> stream, std::span<std::uint8_t> data) {
  const Header header = read_header(stream);
  const auto starts = find_chunks(stream, header);
  if (data.size() != header.size) throw std::invalid_argument("the output must have the decoded size");
  parallel_for(static_cast<std::int64_t>(starts.size()) - 1, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      decode_chunk(stream.subspan(starts[i], starts[i + 1] - starts[i]), header,
                   data.subspan(i * header.chunk, header.chunk_size(i)));
    }
  });
}

}  // namespace model_forensics
