#include "section.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "conditional.hpp"
#include "section_lanes.hpp"
#include "symbol_model.hpp"
#include "wire.hpp"

namespace model_forensics {

namespace {

enum Kind : std::uint8_t { kRaw = 0, kConstant = 1, kStatic = 2, kAdaptive = 3, kConditional = 4 };

// --- writing -----------------------------------------------------------------------------------------------------

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

// For each context that occurs: it, the first and the last symbol behind it, and the frequencies from one to the other. Their number less one comes first.
void put_tables(std::vector<std::uint8_t>& stream, const ConditionalModel& model) {
  const std::size_t at = stream.size();
  stream.push_back(0);
  int tables = -1;
  for (std::size_t context = 0; context < kSymbols; ++context) {
    if (!model.occurs(context)) continue;
    ++tables;
    const Frequencies& frequencies = model.frequencies(context);
    std::size_t first = 0;
    std::size_t last = kSymbols - 1;
    while (frequencies[first] == 0) ++first;
    while (frequencies[last] == 0) --last;
    for (const std::size_t byte : {context, first, last}) stream.push_back(static_cast<std::uint8_t>(byte));
    for (std::size_t s = first; s <= last; ++s) put_varint(stream, frequencies[s]);
  }
  stream[at] = static_cast<std::uint8_t>(tables);
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

ConditionalModel get_tables(Reader& reader) {
  ConditionalModel model;
  int before = -1;
  for (int left = reader.byte(); left >= 0; --left) {
    const int context = reader.byte();
    if (context <= before) throw StreamError("tables are out of order");
    before = context;
    const std::size_t first = reader.byte();
    const std::size_t last = reader.byte();
    Frequencies frequencies{};
    std::uint64_t total = 0;
    for (std::size_t s = first; s <= last; ++s) {
      frequencies[s] = static_cast<std::uint32_t>(reader.varint(std::uint64_t{1} << kStaticBits));
      total += frequencies[s];
    }
    if (total != std::uint64_t{1} << kStaticBits) throw StreamError("frequencies do not add up");
    model.set(static_cast<std::size_t>(context), frequencies);
  }
  return model;
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

namespace {

void put_static(std::vector<std::uint8_t>& stream, std::span<const std::uint8_t> symbols, const Counts& counts) {
  const Frequencies frequencies = static_frequencies(counts);
  const int lanes = lanes_log2(static_cost(counts, frequencies), kMostLanesLog2);
  stream.push_back(kStatic);
  put_table(stream, frequencies);
  stream.push_back(static_cast<std::uint8_t>(lanes));
  put_lanes(stream, encode_static(symbols, slices_of(frequencies), lanes));
}

void put_adaptive(std::vector<std::uint8_t>& stream, std::span<const std::uint8_t> symbols, const Counts& counts) {
  const int lanes = lanes_log2(static_cost(counts, static_frequencies(counts)), kMostAdaptiveLanesLog2);
  stream.push_back(kAdaptive);
  stream.push_back(static_cast<std::uint8_t>(lanes));
  put_lanes(stream, encode_adaptive(symbols, lanes));
}

// Replaces the static section that begins at `start` where the estimate with one table for each context, tables
// included, is below the estimate without.
void put_conditional_if_shorter(std::vector<std::uint8_t>& stream, std::size_t start,
                                std::span<const std::uint8_t> symbols, const Counts& counts) {
  const std::int64_t unconditional = static_cost(counts, static_frequencies(counts));
  const int lanes = lanes_log2(unconditional, kMostConditionalLanesLog2);
  ConditionalModel model;
  model.count(symbols, lanes);
  std::vector<std::uint8_t> section{kConditional};
  put_tables(section, model);
  if (model.cost() + static_cast<std::int64_t>(section.size()) * 8 * 256 >= unconditional) return;
  section.push_back(static_cast<std::uint8_t>(lanes));
  put_lanes(section, model.encode(symbols, lanes));
  stream.resize(start);
  stream.insert(stream.end(), section.begin(), section.end());
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
  const std::size_t start = stream.size();
  if (model == SymbolModel::adaptive) {
    put_adaptive(stream, symbols, counts);
  } else {
    put_static(stream, symbols, counts);
    if (model == SymbolModel::conditional) put_conditional_if_shorter(stream, start, symbols, counts);
  }
  if (stream.size() - start > symbols.size()) {
    stream.resize(start);
    put_raw(stream, symbols);
  }
}

void decode_section(Reader& reader, std::span<std::uint8_t> symbols) {
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
    case kConditional: {
      const ConditionalModel model = get_tables(reader);
      model.decode(get_lanes(reader, symbols.size(), kMostConditionalLanesLog2), symbols);
      break;
    }
    default:
      throw StreamError("a section is of an unknown kind");
  }
}

}  // namespace model_forensics
