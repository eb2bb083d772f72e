// Decodes lanes under one static model.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "symbol_model.hpp"

namespace model_forensics {

class StaticDecoder {
 public:
  explicit StaticDecoder(const Slices& slices);

  // Symbol i comes from lane i % lanes.
  void decode(std::span<std::uint8_t> symbols, std::size_t lanes, DecoderLane* states) const;

  template <bool kChecked>
  [[gnu::always_inline]] std::uint8_t symbol(DecoderLane& lane) const {
    const std::uint64_t r = lane.range >> kStaticBits;
    const std::uint8_t found = symbol_at_[lane.position<kStaticBits>(r)];
    lane.advance<kStaticBits, kChecked>(r, slices_[found]);
    return found;
  }

 private:
  Slices slices_;
  std::array<std::uint32_t, kSymbols> packed_{};  // the slices in 32 bits, for gathers
  std::array<std::uint8_t, (std::size_t{1} << kStaticBits) + 8> symbol_at_{};  // gathers read eight bytes
};

}  // namespace model_forensics
