#include "planes.hpp"

#include <array>
#include <bit>
#include <cmath>

#include "checks.hpp"

namespace model_forensics {

namespace {

constexpr double kTwoOverLn2 = 2.8853900817779268;  // nearest double of 2 / ln 2
constexpr double kSqrt2 = 1.4142135623730951;       // nearest double of the square root of 2
constexpr int kTerms = 11;                          // the twelfth term is below half a unit in the last place

constexpr std::array<double, kTerms> kSeries = [] {
  std::array<double, kTerms> series{};
  for (int k = 0; k < kTerms; ++k) series[static_cast<std::size_t>(k)] = kTwoOverLn2 / (2 * k + 1);
  return series;
}();

std::uint8_t level(double position, std::int64_t levels) {
  const double last = static_cast<double>(levels - 1);
  return static_cast<std::uint8_t>(std::min(std::max(std::floor(position), 0.0), last));
}

void require_grid(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                  std::int64_t levels, std::span<std::uint8_t> symbols) {
  require(levels >= 1 && levels <= 255, "levels must be from 1 to 255");
  require(low.size() == step.size(), "low and step must have one entry for each channel");
  require(divides(length(values), length(low)), "values must be whole rows of channels");
  require(symbols.size() == values.size(), "the output must have the shape of the values");
}

template <typename Position>
void quantize(std::span<const float> values, std::span<const float> low, std::span<const float> step,
              std::int64_t levels, std::span<std::uint8_t> symbols, Position position) {
  require_grid(values, low, step, levels, symbols);
  const std::size_t channels = low.size();
  const auto nonfinite = static_cast<std::uint8_t>(levels);
  for (std::size_t row = 0; row < values.size(); row += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      const float value = values[row + c];
      symbols[row + c] = std::isfinite(value) ? position(value, static_cast<double>(low[c]),
                                                         static_cast<double>(step[c]))
                                              : nonfinite;
    }
  }
}

}  // namespace

double log2_exact_order(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  auto exponent = static_cast<double>(static_cast<std::int64_t>(bits >> 52) - 1023);
  double mantissa = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (mantissa > kSqrt2) {
    mantissa *= 0.5;
    exponent += 1.0;
  }
  const double ratio = (mantissa - 1.0) / (mantissa + 1.0);
  const double square = ratio * ratio;
  double sum = kSeries[kTerms - 1];
  for (int k = kTerms - 2; k >= 0; --k) sum = sum * square + kSeries[static_cast<std::size_t>(k)];
  return exponent + ratio * sum;
}

void quantize_uniform(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                      std::int64_t levels, std::span<std::uint8_t> symbols) {
  quantize(values, low, step, levels, symbols, [levels](float value, double lowest, double width) {
    return level((static_cast<double>(value) - lowest) / width, levels);
  });
}

void quantize_log(std::span<const float> values, std::span<const float> low, std::span<const float> step,
                  std::int64_t levels, std::span<std::uint8_t> symbols) {
  quantize(values, low, step, levels, symbols, [levels](float value, double lowest, double width) -> std::uint8_t {
    if (value == 0.0F) return 0;
    // A float32 denormal is a normal float64, so the exponent field is enough.
    return level((log2_exact_order(std::fabs(static_cast<double>(value))) - lowest) / width, levels);
  });
}

void histogram(std::span<const std::uint8_t> symbols, std::int64_t channels, std::int64_t alphabet,
               std::span<std::int64_t> counts) {
  require_alphabet(alphabet);
  require(channels >= 0 && divides(length(symbols), channels), "symbols must be whole rows of `channels`");
  require(length(counts) == channels * alphabet, "counts must be [channels, alphabet]");
  require_symbols(symbols, alphabet);
  std::fill(counts.begin(), counts.end(), 0);
  const auto width = static_cast<std::size_t>(channels);
  for (std::size_t row = 0; row < symbols.size(); row += width) {
    std::int64_t* channel = counts.data();
    for (std::size_t c = 0; c < width; ++c, channel += alphabet) ++channel[symbols[row + c]];
  }
}

}  // namespace model_forensics
