#include "section.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "section_lanes.hpp"
#include "symbol_model.hpp"

namespace model_forensics {

namespace {

enum Kind : std::uint8_t { kRaw = 0, kConstant = 1, kStatic = 2, kAdaptive = 3 };

using Frequencies = std::array<std::uint32_t, kSymbols>;

// --- writing -----------------------------------------------------------------------------------------------------

// Little-endian groups of seven bits, the highest bit set on all but the last.
void put_varint(std::vector<std::uint8_t>& stream, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) stream.push_back(static_cast<std::uint8_t>(value | 0x80));
  stream.push_back(static_cast<std::uint8_t>(value));
}

// 32 bytes of which symbols occur, then the frequency of each that does.
void put_table(std::vector<std::uint8_t>& stream, const Frequencies& frequencies) {
  for (std::size_t byte = 0; byte < kSymbols / 8; ++byte) {
    std::uint8_t present = 0;
    for (std::size_t bit = 0; bit < 8; ++bit) {
      present = static_cast<std::uint8_t>(present | (frequencies[byte * 8 + bit] > 0 ? 1U << bit : 0U));
    }
    stream.push_back(present);
  }
  for (const auto frequency : frequencies) {
    if (frequency > 0) put_varint(stream, frequency);
  }
}

void put_lanes(std::vector<std::uint8_t>& stream, const LaneWords& words) {
  for (std::size_t lane = 0; lane < words.lanes(); ++lane) put_varint(stream, words.of(lane).size());
  for (std::size_t lane = 0; lane < words.lanes(); ++lane) {
    const auto bytes = std::as_bytes(words.of(lane));
    const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
    stream.insert(stream.end(), first, first + bytes.size());
  }
}

void put_raw(std::vector<std::uint8_t>& stream, std::span<const std::uint8_t> symbols) {
  stream.push_back(kRaw);
  stream.insert(stream.end(), symbols.begin(), symbols.end());
}

// --- reading -----------------------------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> stream) : stream_(stream) {}

  std::span<const std::uint8_t> take(std::size_t size) {
    if (size > stream_.size()) throw StreamError("a section ends early");
    const auto taken = stream_.first(size);
    stream_ = stream_.subspan(size);
    return taken;
  }

  std::uint8_t byte() { return take(1)[0]; }

  std::uint64_t varint(std::uint64_t most) {
    std::uint64_t value = 0;
    for (int shift = 0; shift <= 28; shift += 7) {
      const std::uint64_t group = byte();
      value |= (group & 0x7F) << shift;
      if (group < 0x80) {
        if (value > most) break;
        return value;
      }
    }
    throw StreamError("a section holds a number that is too large");
  }

  std::span<const std::uint8_t> left() const { return stream_; }

 private:
  std::span<const std::uint8_t> stream_;
};

Frequencies get_table(Reader& reader) {
  Frequencies frequencies{};
  const auto present = reader.take(kSymbols / 8);
  std::uint64_t total = 0;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    if (((present[s / 8] >> (s % 8)) & 1) == 0) continue;
    frequencies[s] = static_cast<std::uint32_t>(reader.varint(std::uint64_t{1} << kStaticBits));
    if (frequencies[s] == 0) throw StreamError("a symbol has no frequency");
    total += frequencies[s];
  }
  if (total != std::uint64_t{1} << kStaticBits) throw StreamError("frequencies do not add up");
  return frequencies;
}

LaneSpans get_lanes(Reader& reader, std::size_t symbols, int most_lanes_log2) {
  const int lanes_log2 = reader.byte();
  if (lanes_log2 > most_lanes_log2) throw StreamError("too many lanes");
  const std::size_t lanes = std::size_t{1} << lanes_log2;
  std::array<std::size_t, kMostLanes> sizes{};
  for (std::size_t lane = 0; lane < lanes; ++lane) sizes[lane] = reader.varint(2 * symbols + 4);
  LaneSpans spans{lanes, {}};
  for (std::size_t lane = 0; lane < lanes; ++lane) spans.words[lane] = reader.take(2 * sizes[lane]);
  return spans;
}

}  // namespace

void encode_section(std::span<const std::uint8_t> symbols, SymbolModel model, std::vector<std::uint8_t>& stream) {
  if (symbols.empty()) return put_raw(stream, symbols);
  const Counts counts = count_symbols(symbols);
  if (counts[symbols[0]] == static_cast<std::int64_t>(symbols.size())) {
    stream.push_back(kConstant);
    stream.push_back(symbols[0]);
    return;
  }
  const Frequencies frequencies = static_frequencies(counts);
  const std::size_t start = stream.size();
  if (model == SymbolModel::fixed) {
    const int lanes = lanes_log2(counts, frequencies, kMostLanesLog2);
    stream.push_back(kStatic);
    put_table(stream, frequencies);
    stream.push_back(static_cast<std::uint8_t>(lanes));
    put_lanes(stream, encode_static(symbols, slices_of(frequencies), lanes));
  } else {
    const int lanes = lanes_log2(counts, frequencies, kMostAdaptiveLanesLog2);
    stream.push_back(kAdaptive);
    stream.push_back(static_cast<std::uint8_t>(lanes));
    put_lanes(stream, encode_adaptive(symbols, lanes));
  }
  if (stream.size() - start > symbols.size()) {
    stream.resize(start);
    put_raw(stream, symbols);
  }
}

std::span<const std::uint8_t> decode_section(std::span<const std::uint8_t> stream, std::span<std::uint8_t> symbols) {
  Reader reader(stream);
  switch (reader.byte()) {
    case kRaw: {
      const auto raw = reader.take(symbols.size());
      std::copy(raw.begin(), raw.end(), symbols.begin());
      break;
    }
    case kConstant:
      std::fill(symbols.begin(), symbols.end(), reader.byte());
      break;
    case kStatic: {
      const Frequencies frequencies = get_table(reader);
      decode_static(get_lanes(reader, symbols.size(), kMostLanesLog2), slices_of(frequencies), symbols);
      break;
    }
    case kAdaptive:
      decode_adaptive(get_lanes(reader, symbols.size(), kMostAdaptiveLanesLog2), symbols);
      break;
    default:
      throw StreamError("a section is of an unknown kind");
  }
  return reader.left();
}

}  // namespace model_forensics
