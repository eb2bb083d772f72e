// What a site's values look like without a model: repeats, saturation, mantissa bits, quantiles.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// Columns of `counts`.
enum ShapeCount : int {
  kLookedAt,     // values that the others count among
  kDistinct,     // different bit patterns
  kMostFrequent, // times that the most frequent one occurs
  kSaturated,    // values of the largest magnitude
  kLowMantissa,  // values with a set bit below bfloat16's mantissa
  kShapeCounts,
};

// values: [entries] not NaN; starts: [sites + 1], where the entries of each site begin; most: values of a site that are
// looked at, every k-th of more; levels: [quantiles] from 0 to 1.
// counts: [sites, kShapeCounts]; quantiles: [sites, quantiles], the magnitude at rank floor(level * (n - 1)), NaN in
// sites without a value. Throws std::invalid_argument for sizes that do not fit.
void value_shapes(std::span<const float> values, std::span<const std::int64_t> starts, std::int64_t most,
                  std::span<const double> levels, std::span<std::int64_t> counts, std::span<float> quantiles);

}  // namespace model_forensics
