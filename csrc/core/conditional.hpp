// The conditional model: a static table for each value of the symbol before, in the same lane.
//
// The exponents of neighbouring values are alike, and one table for a whole plane does not see that.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "section_lanes.hpp"
#include "symbol_model.hpp"

namespace model_forensics {

inline constexpr int kMostConditionalLanesLog2 = 3;

// What follows what: [previous symbol][symbol]. In the first row of lanes the previous symbol is 0.
class ConditionalModel {
 public:
  ConditionalModel();

  void count(std::span<const std::uint8_t> symbols, int lanes_log2);
  void set(std::size_t previous, const Frequencies& frequencies);

  bool occurs(std::size_t previous) const { return occurs_[previous]; }
  const Frequencies& frequencies(std::size_t previous) const { return frequencies_[previous]; }
  std::int64_t cost() const { return cost_; }  // as static_cost, of what was counted

  LaneWords encode(std::span<const std::uint8_t> symbols, int lanes_log2) const;
  void decode(const LaneSpans& lanes, std::span<std::uint8_t> symbols) const;

 private:
  std::array<bool, kSymbols> occurs_{};
  std::int64_t cost_ = 0;
  std::unique_ptr<Frequencies[]> frequencies_;
};

}  // namespace model_forensics
