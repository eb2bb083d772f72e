// Bits that symbols cost under a static model.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything.
// Outputs may hold anything on entry.
#pragma once

#include <cstdint>
#include <span>

#include "tiles.hpp"

namespace model_forensics {

// Costs are integers (in units of the caller), so that sums are exact in any order.
struct StaticModel {
  std::span<const std::int32_t> cost;    // [tables, alphabet]
  std::int64_t alphabet = 0;
  std::span<const std::int32_t> tables;  // [channels of all sites]: the table of each; empty: table c for channel c
};

// What remains after the sum; an empty span is not wanted.
struct CostSums {
  std::span<std::int64_t> channel;  // [channels of all sites]
  std::span<std::int64_t> token;    // [tokens of all sites]
  std::span<std::int64_t> site;     // [sites]
  std::span<std::int64_t> cell;     // [cells of all sites]
};

// One pass over the input.
void codelength(const Input& input, const Sites& sites, const StaticModel& model, const CostSums& sums);

}  // namespace model_forensics
