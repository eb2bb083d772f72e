#include "conditional.hpp"

namespace model_forensics {

namespace {

using AllSlices = std::unique_ptr<Slices[]>;

AllSlices slices_of_all(const Frequencies* frequencies) {
  auto slices = std::make_unique<Slices[]>(kSymbols);
  for (std::size_t previous = 0; previous < kSymbols; ++previous) slices[previous] = slices_of(frequencies[previous]);
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

// A previous symbol without a table stands in damaged streams only; 0 follows it, for certain.
ConditionalModel::ConditionalModel() : frequencies_(new Frequencies[kSymbols]{}) {
  for (std::size_t previous = 0; previous < kSymbols; ++previous) frequencies_[previous][0] = 1U << kStaticBits;
}

void ConditionalModel::set(std::size_t previous, const Frequencies& frequencies) {
  occurs_[previous] = true;
  frequencies_[previous] = frequencies;
}

void ConditionalModel::count(std::span<const std::uint8_t> symbols, int lanes_log2) {
  const std::size_t lanes = std::size_t{1} << lanes_log2;
  const std::unique_ptr<Counts[]> counts(new Counts[kSymbols]{});
  for (std::size_t i = 0; i < symbols.size(); ++i) ++counts[i < lanes ? 0 : symbols[i - lanes]][symbols[i]];
  for (std::size_t previous = 0; previous < kSymbols; ++previous) {
    bool any = false;
    for (const auto count : counts[previous]) any = any || count > 0;
    if (!any) continue;
    set(previous, static_frequencies(counts[previous]));
    cost_ += static_cost(counts[previous], frequencies_[previous]);
  }
}

LaneWords ConditionalModel::encode(std::span<const std::uint8_t> symbols, int lanes_log2) const {
  const std::size_t lanes = std::size_t{1} << lanes_log2;
  const AllSlices slices = slices_of_all(frequencies_.get());
  LaneWords words(lanes, symbols.size() / lanes + 2);
  EncoderLane* states = &words.lane(0);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const std::uint8_t previous = i < lanes ? std::uint8_t{0} : symbols[i - lanes];
    states[i & (lanes - 1)].encode<kStaticBits>(slices[previous][symbols[i]]);
  }
  words.finish();
  return words;
}

void ConditionalModel::decode(const LaneSpans& lanes, std::span<std::uint8_t> symbols) const {
  const AllSlices slices = slices_of_all(frequencies_.get());
  const auto finders = std::make_unique<Finder[]>(kSymbols);
  for (std::size_t previous = 0; previous < kSymbols; ++previous) finders[previous].fill(slices[previous]);
  std::array<DecoderLane, kMostLanes> states;
  for (std::size_t lane = 0; lane < lanes.lanes; ++lane) states[lane].start(lanes.words[lane]);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const std::uint8_t previous = i < lanes.lanes ? std::uint8_t{0} : symbols[i - lanes.lanes];
    DecoderLane& lane = states[i & (lanes.lanes - 1)];
    const std::uint64_t r = lane.range >> kStaticBits;
    symbols[i] = finders[previous].find(slices[previous], lane.position<kStaticBits>(r));
    lane.advance<kStaticBits, true>(r, slices[previous][symbols[i]]);
  }
}

}  // namespace model_forensics
