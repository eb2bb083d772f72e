// Bits of entries under predictive models of their channels: a Student-t on log2|x|, a sign, and presence.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

struct PredictiveModel {
  std::span<const float> location;  // [channels] of log2|x|
  std::span<const float> scale;     // [channels] above 0
  std::span<const std::uint8_t> degrees;  // [channels] which row of `bits`
  std::span<const float> positive;        // [channels] probability of a positive sign
  std::span<const float> presence_gain;   // [channels] bits that a present entry costs more than an absent one
  std::span<const double> bits;           // [classes, levels] of a residual symbol
  std::span<const double> expected;       // [classes] their mean
  double step = 0.0;                      // width of a residual symbol in scales
  double resolution = 0.0;                // octaves that absolute bits are stated at
  double least_scale = 0.0;               // scales below weigh as much as this one
  double largest_square = 0.0;            // squared residuals above count as this one
};

// Sums per site, in the order of the rows of `sums`.
enum PredictiveSum : int {
  kSumMagnitude,   // excess bits of the magnitude
  kSumSign,        // excess bits of the sign
  kSumPrecision,   // 1 / scale^2
  kSumDrift,       // (log2|x| - location) / scale^2
  kSumSquares,     // ((log2|x| - location - mean drift) / scale)^2
  kSumPresence,    // presence_gain
  kSumStatic,      // bits of the residual symbols
  kSumAbsolute,    // bits of magnitude and sign
  kPredictiveSums,
};

struct PredictiveBits {
  std::span<double> excess;          // [entries] of magnitude and sign
  std::span<std::uint8_t> symbols;   // [entries] residuals in steps, `levels` of them
  std::span<double> presence;        // [entries] presence_gain
  std::span<double> sums;            // [kPredictiveSums, sites]
  std::span<std::int64_t> counts;    // [sites, levels] of the symbols
};

// values: [entries], finite and not 0; channels: [entries]; starts: [sites + 1], where the entries of each site begin.
// Sums are added entry by entry: every instruction set and number of threads gives the same bits. Throws
// std::invalid_argument for sizes that do not fit and for a channel or a class that is not there.
void predictive_bits(std::span<const float> values, std::span<const std::int64_t> channels,
                     std::span<const std::int64_t> starts, const PredictiveModel& model, const PredictiveBits& out);

// Adds log2|x|, its square, and whether x > 0 to sums of the entries' channels, all [channels].
void add_moments(std::span<const float> values, std::span<const std::int64_t> channels, std::span<double> count,
                 std::span<double> total, std::span<double> square, std::span<double> positive);

}  // namespace model_forensics
