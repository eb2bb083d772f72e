// Decodes lanes under the adaptive model, whose frequencies are made anew for every block of symbols.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "symbol_model.hpp"

namespace model_forensics {

class AdaptiveDecoder {
 public:
  // Before a block: the symbols in front of it.
  void update(const Counts& counts);

  // Symbol i of the block comes from lane i % lanes.
  void decode(std::span<std::uint8_t> symbols, std::size_t lanes, DecoderLane* states) const;

  // Positions are looked up by their upper bits, and the symbols from there on one by one. There are so many buckets that
  // few hold more than one symbol: a wrong guess of whether to go on takes longer than a symbol. `position` < 2^20.
  [[gnu::always_inline]] std::size_t find(std::uint64_t position) const {
    std::size_t symbol = first_[position >> kBucketBits];
    while (slices_[symbol].start + slices_[symbol].frequency <= position) [[unlikely]] ++symbol;
    return symbol;
  }

  template <bool kChecked>
  [[gnu::always_inline]] std::uint8_t symbol(DecoderLane& lane) const {
    const std::uint64_t r = lane.range >> kAdaptiveBits;
    const std::size_t found = find(lane.position<kAdaptiveBits>(r));
    lane.advance<kAdaptiveBits, kChecked>(r, slices_[found]);
    return static_cast<std::uint8_t>(found);
  }

  const Slice& slice(std::size_t symbol) const { return slices_[symbol]; }

 private:
  static constexpr int kBucketBits = 7;
  static constexpr std::size_t kBuckets = std::size_t{1} << (kAdaptiveBits - kBucketBits);
  static constexpr std::size_t kStore = 16;  // bytes written at a time

  static std::size_t bucket_from(std::size_t position);

  Slices slices_{};
  std::array<std::uint8_t, kBuckets + kStore> first_{};  // the symbol at the first position of each bucket
};

}  // namespace model_forensics
