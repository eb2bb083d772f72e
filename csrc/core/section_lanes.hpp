// The symbols of a section dealt to lanes, one after the other, and coded. Lanes are independent, so that their latencies
// overlap: symbol i goes to lane i % lanes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "symbol_model.hpp"

namespace model_forensics {

inline constexpr int kMostLanesLog2 = 5;
inline constexpr int kMostAdaptiveLanesLog2 = 3;
inline constexpr std::size_t kMostLanes = std::size_t{1} << kMostLanesLog2;

// What an encoder wrote, lane by lane.
class LaneWords {
 public:
  LaneWords(std::size_t lanes, std::size_t most_words);

  std::size_t lanes() const { return lanes_; }
  EncoderLane& lane(std::size_t number) { return state_[number]; }
  void finish();  // ends every lane; words of zero at the end need not be stored
  std::span<const std::uint16_t> of(std::size_t number) const;

 private:
  std::size_t lanes_;
  std::size_t capacity_;
  std::unique_ptr<std::uint16_t[]> words_;  // not initialised
  std::array<EncoderLane, kMostLanes> state_;
};

// The stored words of each lane, two bytes each.
struct LaneSpans {
  std::size_t lanes;
  std::array<std::span<const std::uint8_t>, kMostLanes> words;
};

LaneWords encode_static(std::span<const std::uint8_t> symbols, const Slices& slices, int lanes_log2);
LaneWords encode_adaptive(std::span<const std::uint8_t> symbols, int lanes_log2);
void decode_static(const LaneSpans& lanes, const Slices& slices, std::span<std::uint8_t> symbols);
void decode_adaptive(const LaneSpans& lanes, std::span<std::uint8_t> symbols);

}  // namespace model_forensics
