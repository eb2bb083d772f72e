#include "codelength.hpp"

#include "checks.hpp"

namespace model_forensics {

namespace {

void require_costs(std::span<const std::uint8_t> symbols, std::span<const float> cost, std::int64_t channels,
                   std::int64_t alphabet) {
  require_alphabet(alphabet);
  require(channels >= 0 && divides(length(symbols), channels), "symbols must be whole rows of `channels`");
  require(length(cost) == channels * alphabet, "cost must be [channels, alphabet]");
  require_symbols(symbols, alphabet);
}

}  // namespace

void codelength_per_channel(std::span<const std::uint8_t> symbols, std::span<const float> cost,
                            std::int64_t channels, std::int64_t alphabet, std::span<double> bits) {
  require_costs(symbols, cost, channels, alphabet);
  require(length(bits) == channels, "bits must be [channels]");
  std::fill(bits.begin(), bits.end(), 0.0);
  const auto width = static_cast<std::size_t>(channels);
  for (std::size_t row = 0; row < symbols.size(); row += width) {
    const float* channel = cost.data();
    for (std::size_t c = 0; c < width; ++c, channel += alphabet) bits[c] += channel[symbols[row + c]];
  }
}

void codelength_per_token(std::span<const std::uint8_t> symbols, std::span<const float> cost, std::int64_t channels,
                          std::int64_t alphabet, std::span<double> bits) {
  require_costs(symbols, cost, channels, alphabet);
  require(length(bits) * channels == length(symbols), "bits must be [tokens]");
  const auto width = static_cast<std::size_t>(channels);
  for (std::size_t token = 0; token < bits.size(); ++token) {
    const float* channel = cost.data();
    double sum = 0.0;
    for (std::size_t c = 0; c < width; ++c, channel += alphabet) sum += channel[symbols[token * width + c]];
    bits[token] = sum;
  }
}

}  // namespace model_forensics
