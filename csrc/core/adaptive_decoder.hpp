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

  template <bool kChecked>
  [[gnu::always_inline]] std::uint8_t symbol(DecoderLane& lane) const {
    const std::uint64_t r = lane.range >> kAdaptiveBits;
    const std::uint32_t position = lane.position<kAdaptiveBits>(r);
    std::size_t found = first_[position >> kBucketBits];
    while (slices_[found].start + slices_[found].frequency <= position) [[unlikely]] ++found;
    lane.advance<kAdaptiveBits, kChecked>(r, slices_[found]);
    return static_cast<std::uint8_t>(found);
  }

  // Positions are looked up by their upper bits, and the symbols from there on one by one. There are so many buckets that
  // few hold more than one symbol: a wrong guess of whether to go on takes longer than a symbol.
  static constexpr int kBucketBits = 7;

 private:
  static constexpr std::size_t kBuckets = std::size_t{1} << (kAdaptiveBits - kBucketBits);
  static constexpr std::size_t kStore = 16;  // bytes written at a time

  Slices slices_{};
  std::array<std::uint8_t, kBuckets + kStore> first_{};  // the symbol at the first position of each bucket; gathers read four
};

}  // namespace model_forensics
