#include "conditional.hpp"

#include <algorithm>

namespace model_forensics {

namespace {

// The sum of the last four symbols.
class Context {
 public:
  std::uint8_t value() const { return sum_; }

  void push(std::uint8_t symbol) {
    sum_ = static_cast<std::uint8_t>(sum_ + symbol - static_cast<std::uint8_t>(last_ >> 24));
    last_ = last_ << 8 | symbol;
  }

 private:
  std::uint32_t last_ = 0;
  std::uint8_t sum_ = 0;
};

// Symbols cut into lanes of neighbours.
struct Runs {
  Runs(std::size_t symbols, std::size_t in_lanes) : lanes(in_lanes), length((symbols + in_lanes - 1) / in_lanes) {}

  std::span<const std::uint8_t> of(std::span<const std::uint8_t> symbols, std::size_t lane) const {
    const std::size_t first = std::min(lane * length, symbols.size());
    return symbols.subspan(first, std::min(length, symbols.size() - first));
  }

  std::size_t lanes;
  std::size_t length;
};

using AllSlices = std::unique_ptr<Slices[]>;

AllSlices slices_of_all(const Frequencies* frequencies) {
  auto slices = std::make_unique<Slices[]>(kSymbols);
  for (std::size_t context = 0; context < kSymbols; ++context) slices[context] = slices_of(frequencies[context]);
  return slices;
}

// The symbols of one table by the upper bits of a position, and onwards from there.
class Finder {
 public:
  void fill(const Slices& slices) {
    std::size_t symbol = 0;
    for (std::size_t bucket = 0; bucket < first_.size(); ++bucket) {
      while (end(slices, symbol) <= bucket << kBucketBits) ++symbol;
      first_[bucket] = static_cast<std::uint8_t>(symbol);
    }
  }

  std::uint8_t find(const Slices& slices, std::uint32_t position) const {
    std::size_t symbol = first_[position >> kBucketBits];
    while (end(slices, symbol) <= position) ++symbol;
    return static_cast<std::uint8_t>(symbol);
  }

 private:
  static constexpr int kBucketBits = 6;

  static std::size_t end(const Slices& slices, std::size_t symbol) {
    return slices[symbol].start + std::size_t{slices[symbol].frequency};
  }

  std::array<std::uint8_t, (std::size_t{1} << (kStaticBits - kBucketBits))> first_{};
};

}  // namespace

// A context without a table stands in damaged streams only; 0 follows it, for certain.
ConditionalModel::ConditionalModel() : frequencies_(new Frequencies[kSymbols]{}) {
  for (std::size_t context = 0; context < kSymbols; ++context) frequencies_[context][0] = 1U << kStaticBits;
}

void ConditionalModel::set(std::size_t context, const Frequencies& frequencies) {
  occurs_[context] = true;
  frequencies_[context] = frequencies;
}

void ConditionalModel::count(std::span<const std::uint8_t> symbols, int lanes_log2) {
  const Runs runs(symbols.size(), std::size_t{1} << lanes_log2);
  const std::unique_ptr<Counts[]> counts(new Counts[kSymbols]{});
  for (std::size_t lane = 0; lane < runs.lanes; ++lane) {
    Context context;
    for (const auto symbol : runs.of(symbols, lane)) {
      ++counts[context.value()][symbol];
      context.push(symbol);
    }
  }
  for (std::size_t context = 0; context < kSymbols; ++context) {
    bool any = false;
    for (const auto count : counts[context]) any = any || count > 0;
    if (!any) continue;
    set(context, static_frequencies(counts[context]));
    cost_ += static_cost(counts[context], frequencies_[context]);
  }
}

LaneWords ConditionalModel::encode(std::span<const std::uint8_t> symbols, int lanes_log2) const {
  const Runs runs(symbols.size(), std::size_t{1} << lanes_log2);
  const AllSlices slices = slices_of_all(frequencies_.get());
  LaneWords words(runs.lanes, runs.length + 2);
  for (std::size_t lane = 0; lane < runs.lanes; ++lane) {
    EncoderLane state = words.lane(lane);
    Context context;
    for (const auto symbol : runs.of(symbols, lane)) {
      state.encode<kStaticBits>(slices[context.value()][symbol]);
      context.push(symbol);
    }
    words.lane(lane) = state;
  }
  words.finish();
  return words;
}

// All lanes in turn, so that their latencies overlap.
void ConditionalModel::decode(const LaneSpans& lanes, std::span<std::uint8_t> symbols) const {
  const Runs runs(symbols.size(), lanes.lanes);
  const AllSlices slices = slices_of_all(frequencies_.get());
  const auto finders = std::make_unique<Finder[]>(kSymbols);
  for (std::size_t context = 0; context < kSymbols; ++context) finders[context].fill(slices[context]);
  std::array<DecoderLane, kMostLanes> states;
  std::array<Context, kMostLanes> contexts;
  for (std::size_t lane = 0; lane < lanes.lanes; ++lane) states[lane].start(lanes.words[lane]);
  for (std::size_t row = 0; row < runs.length; ++row) {
    for (std::size_t lane = 0; lane < lanes.lanes; ++lane) {
      const std::size_t at = lane * runs.length + row;
      if (at >= symbols.size()) break;  // the last lanes may be shorter
      const std::uint8_t context = contexts[lane].value();
      const std::uint64_t r = states[lane].range >> kStaticBits;
      symbols[at] = finders[context].find(slices[context], states[lane].position<kStaticBits>(r));
      states[lane].advance<kStaticBits, true>(r, slices[context][symbols[at]]);
      contexts[lane].push(symbols[at]);
    }
  }
}

}  // namespace model_forensics
