// Sums of entries, or of their distances from where they belong, over bins.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// What stands for an entry x: min(|x - centre| / spread, limit), or x itself where `spread` is empty.
struct BinDistance {
  std::span<const double> centre;  // [bins]
  std::span<const double> spread;  // [sites] above 0
  double limit = 0.0;
};

// x, bins: [entries]; starts: [sites + 1], where the entries of each site begin. total: [bins], sums of terms;
// squares: [sites], sums of their squares. Added entry by entry, so the bits do not depend on anything else. Throws
// std::invalid_argument for sizes that do not fit and for a bin that is not there.
void bin_sums(std::span<const double> x, std::span<const std::int64_t> bins, std::span<const std::int64_t> starts,
              const BinDistance& distance, std::span<double> total, std::span<double> squares);

}  // namespace model_forensics
