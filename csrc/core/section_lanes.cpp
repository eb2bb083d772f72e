#include "section_lanes.hpp"

#include <algorithm>

#include "adaptive_decoder.hpp"
#include "isa.hpp"
#include "static_decoder.hpp"

namespace model_forensics {

LaneWords::LaneWords(std::size_t lanes, std::size_t most_words)
    : lanes_(lanes), capacity_(most_words + 3), words_(new std::uint16_t[lanes * capacity_]) {
  for (std::size_t lane = 0; lane < lanes; ++lane) state_[lane].next = words_.get() + lane * capacity_;
}

void LaneWords::finish() {
  for (std::size_t lane = 0; lane < lanes_; ++lane) {
    state_[lane].finish();
    const std::uint16_t* first = words_.get() + lane * capacity_ + 1;
    while (state_[lane].next > first && state_[lane].next[-1] == 0) --state_[lane].next;
  }
}

std::span<const std::uint16_t> LaneWords::of(std::size_t number) const {
  const std::uint16_t* first = words_.get() + number * capacity_ + 1;
  return {first, state_[number].next};
}

namespace {

constexpr std::size_t kRows = 1024;  // of symbols that stay in the first-level cache while groups of lanes pass over them

// One lane over `rows` rows of `stride` symbols.
template <int kTotalBits>
void encode_rows_1(const std::uint8_t* symbols, std::size_t rows, std::size_t stride, const Slice* slices,
                   EncoderLane* states) {
  EncoderLane lane = states[0];
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) lane.encode<kTotalBits>(slices[symbols[0]]);
  states[0] = lane;
}

// Four neighbouring lanes, as variables of their own, so that their states stay in registers.
template <int kTotalBits>
[[gnu::always_inline]] inline void encode_rows_4(const std::uint8_t* symbols, std::size_t rows, std::size_t stride,
                                                 const Slice* slices, EncoderLane* states) {
  EncoderLane a = states[0];
  EncoderLane b = states[1];
  EncoderLane c = states[2];
  EncoderLane d = states[3];
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) {
    a.encode<kTotalBits>(slices[symbols[0]]);
    b.encode<kTotalBits>(slices[symbols[1]]);
    c.encode<kTotalBits>(slices[symbols[2]]);
    d.encode<kTotalBits>(slices[symbols[3]]);
  }
  states[0] = a;
  states[1] = b;
  states[2] = c;
  states[3] = d;
}

template <int kTotalBits>
void encode_rows_portable(const std::uint8_t* symbols, std::size_t rows, std::size_t stride, const Slice* slices,
                          EncoderLane* states) {
  encode_rows_4<kTotalBits>(symbols, rows, stride, slices, states);
}

// The same with shifts that need no flags.
template <int kTotalBits>
MODEL_FORENSICS_BMI2 void encode_rows_bmi2(const std::uint8_t* symbols, std::size_t rows, std::size_t stride,
                                           const Slice* slices, EncoderLane* states) {
  encode_rows_4<kTotalBits>(symbols, rows, stride, slices, states);
}

// All lanes over whole rows.
template <int kTotalBits>
void encode_all(const std::uint8_t* symbols, std::size_t rows, std::size_t lanes, const Slices& slices,
                EncoderLane* states) {
  const auto encode_four = isa() >= Isa::avx2 ? encode_rows_bmi2<kTotalBits> : encode_rows_portable<kTotalBits>;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t block = std::min(kRows, rows - first);
    const std::uint8_t* start = symbols + first * lanes;
    std::size_t lane = 0;
    for (; lane + 4 <= lanes; lane += 4) encode_four(start + lane, block, lanes, slices.data(), states + lane);
    for (; lane < lanes; ++lane) encode_rows_1<kTotalBits>(start + lane, block, lanes, slices.data(), states + lane);
  }
}

// A contiguous run of symbols whose first goes to lane 0 of a row; `rest` symbols of the last row are left over.
template <int kTotalBits>
void encode_run(std::span<const std::uint8_t> symbols, std::size_t lanes, const Slices& slices, EncoderLane* states) {
  const std::size_t rows = symbols.size() / lanes;
  encode_all<kTotalBits>(symbols.data(), rows, lanes, slices, states);
  for (std::size_t i = rows * lanes; i < symbols.size(); ++i) {
    states[i - rows * lanes].encode<kTotalBits>(slices[symbols[i]]);
  }
}

// Calls body(first, size) for the blocks that share one adaptive model; all but the last are whole rows.
template <typename Body>
void each_adaptive_block(std::size_t symbols, Body body) {
  for (std::size_t first = 0; first < symbols;) {
    const auto size = std::min(static_cast<std::size_t>(adaptive_block(static_cast<std::int64_t>(first))), symbols - first);
    body(first, size);
    first += size;
  }
}

void count_more(std::span<const std::uint8_t> symbols, Counts& counts) {
  if (symbols.size() < kSymbols) {  // not worth tables of their own
    for (const auto symbol : symbols) ++counts[symbol];
    return;
  }
  const Counts more = count_symbols(symbols);
  for (std::size_t s = 0; s < kSymbols; ++s) counts[s] += more[s];
}

}  // namespace

LaneWords encode_static(std::span<const std::uint8_t> symbols, const Slices& slices, int lanes_log2) {
  const std::size_t lanes = std::size_t{1} << lanes_log2;
  LaneWords words(lanes, symbols.size() / lanes + 2);
  encode_run<kStaticBits>(symbols, lanes, slices, &words.lane(0));
  words.finish();
  return words;
}

LaneWords encode_adaptive(std::span<const std::uint8_t> symbols, int lanes_log2) {
  const std::size_t lanes = std::size_t{1} << lanes_log2;
  LaneWords words(lanes, 2 * (symbols.size() / lanes + 2));
  Counts counts{};
  each_adaptive_block(symbols.size(), [&](std::size_t first, std::size_t size) {
    const auto block = symbols.subspan(first, size);
    encode_run<kAdaptiveBits>(block, lanes, slices_of(adaptive_frequencies(counts)), &words.lane(0));
    count_more(block, counts);
  });
  words.finish();
  return words;
}

void decode_static(const LaneSpans& lanes, const Slices& slices, std::span<std::uint8_t> symbols) {
  std::array<DecoderLane, kMostLanes> states;
  for (std::size_t lane = 0; lane < lanes.lanes; ++lane) states[lane].start(lanes.words[lane]);
  StaticDecoder(slices).decode(symbols, lanes.lanes, states.data());
}

void decode_adaptive(const LaneSpans& lanes, std::span<std::uint8_t> symbols) {
  std::array<DecoderLane, kMostLanes> states;
  for (std::size_t lane = 0; lane < lanes.lanes; ++lane) states[lane].start(lanes.words[lane]);
  Counts counts{};
  AdaptiveDecoder decoder;
  each_adaptive_block(symbols.size(), [&](std::size_t first, std::size_t size) {
    decoder.update(counts);
    const auto block = symbols.subspan(first, size);
    decoder.decode(block, lanes.lanes, states.data());
    count_more(block, counts);
  });
}

}  // namespace model_forensics
