// Bits that symbols cost under a static model, on the GPU. Same bits as csrc/core.
//
// All pointers are to device memory. Launches are asynchronous on `stream`; what a launch reports at once is thrown.
#pragma once

#include "planes.hpp"

namespace model_forensics::cuda {

// cost: [alphabet, count] in units of 2^-16 bits, a column a table; none is larger than `largest` or smaller than -largest.
// tables: [all channels], the table of each channel; null for its own.
struct Costs {
  const std::int32_t* cost = nullptr;
  std::int64_t count = 0;
  const std::int32_t* tables = nullptr;
  std::int64_t largest = 0x7FFFFFFF;
};

// Sums in units of 2^-16 bits; exact, so the order of the additions does not matter. Null where nobody asks.
struct Sums {
  std::int64_t* channel = nullptr;  // [all channels]
  std::int64_t* token = nullptr;    // [all tokens]
  std::int64_t* site = nullptr;     // [sites]
  std::int64_t* block = nullptr;    // per site [ceil(tokens / blocks.tokens), ceil(channels / blocks.channels)]
  Blocks blocks;                    // as in the plan; zeros without `block`
};

// Adds to the sums. The plan's tiles are tile_channels(alphabet) wide.
void codelength(const Input& input, const DevicePlan& plan, const Costs& costs, const Sums& sums,
                CUstream_st* stream);

}  // namespace model_forensics::cuda
