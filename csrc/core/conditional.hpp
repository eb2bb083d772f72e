// The conditional model: a static table for each context, the sum of the four symbols before, modulo 256.
//
// The exponents of neighbouring values are alike, and one table for a whole plane does not see that. The sum is four times
// their mean, and finer than any one of them. Here lanes are runs of neighbouring symbols: lane k of L holds those from
// k * ceil(n / L) on; what lies before its first symbol counts as 0.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "section_lanes.hpp"
#include "symbol_model.hpp"

namespace model_forensics {

inline constexpr int kMostConditionalLanesLog2 = 3;

class ConditionalModel {
 public:
  ConditionalModel();

  void count(std::span<const std::uint8_t> symbols, int lanes_log2);
  void set(std::size_t context, const Frequencies& frequencies);

  bool occurs(std::size_t context) const { return occurs_[context]; }
  const Frequencies& frequencies(std::size_t context) const { return frequencies_[context]; }
  std::int64_t cost() const { return cost_; }  // as static_cost, of what was counted

  LaneWords encode(std::span<const std::uint8_t> symbols, int lanes_log2) const;
  void decode(const LaneSpans& lanes, std::span<std::uint8_t> symbols) const;

 private:
  std::array<bool, kSymbols> occurs_{};
  std::int64_t cost_ = 0;
  std::unique_ptr<Frequencies[]> frequencies_;
};

}  // namespace model_forensics
