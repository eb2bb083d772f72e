// Runs every operation of the core on odd sizes under the sanitizers; values are checked by the Python tests.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <vector>

#include "codelength.hpp"
#include "entropy.hpp"
#include "patch.hpp"
#include "planes.hpp"

namespace mf = model_forensics;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

void entropy(std::int64_t n, std::int64_t window, std::int64_t stride) {
  std::vector<std::uint8_t> symbols(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < symbols.size(); ++i) symbols[i] = static_cast<std::uint8_t>(i * 37 % 251);
  std::vector<std::int64_t> cost(static_cast<std::size_t>(window) + 1);
  for (std::size_t c = 1; c < cost.size(); ++c) {
    cost[c] = std::llround(static_cast<double>(c) * std::log2(static_cast<double>(c)) * 4294967296.0);
  }
  const std::vector<std::int64_t> offsets{0, n / 3, n / 3, n};
  std::int64_t windows = 0;
  for (std::size_t row = 0; row < 3; ++row) {
    windows += mf::count_windows(offsets[row + 1] - offsets[row], window, stride);
  }
  std::vector<double> bits(static_cast<std::size_t>(windows), std::numeric_limits<double>::quiet_NaN());
  mf::entropy_windows(symbols, offsets, window, stride, 256, cost, bits);
  for (const double value : bits) expect(value >= 0.0 && value <= 8.0, "entropy is from 0 to 8 bits");
}

void planes(std::size_t tokens, std::size_t channels) {
  std::vector<float> values(tokens * channels);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::ldexp(static_cast<float>(i % 7) - 3.0F, int(i % 40) - 20);
  if (!values.empty()) values[0] = std::numeric_limits<float>::infinity();
  const std::vector<float> low(channels, -20.0F);
  const std::vector<float> step(channels, 0.7F);
  std::vector<std::uint8_t> symbols(values.size(), 0xA5);
  mf::quantize_uniform(values, low, step, 15, symbols);
  mf::quantize_log(values, low, step, 15, symbols);
  std::vector<std::int64_t> counts(channels * 16, -1);
  mf::histogram(symbols, std::int64_t(channels), 16, counts);
  std::int64_t total = 0;
  for (const auto count : counts) total += count;
  expect(total == std::int64_t(values.size()), "every symbol is counted once");
  const std::vector<float> cost(channels * 16, 2.0F);
  std::vector<double> per_channel(channels, -1.0);
  std::vector<double> per_token(tokens, -1.0);
  mf::codelength_per_channel(symbols, cost, std::int64_t(channels), 16, per_channel);
  mf::codelength_per_token(symbols, cost, std::int64_t(channels), 16, per_token);
  for (const double bits : per_channel) expect(bits == 2.0 * double(tokens), "cost per channel");
  for (const double bits : per_token) expect(bits == 2.0 * double(channels), "cost per token");
}

void patches(std::int64_t tokens, std::int64_t features) {
  const mf::HiddenLayout layout{2, tokens, features, tokens * (features + 1), features + 1};
  std::vector<std::uint16_t> hidden(static_cast<std::size_t>((2 * tokens - 1) * (features + 1) + features), 7);
  const std::vector<std::uint16_t> values(static_cast<std::size_t>(tokens * features), 9);
  const std::vector<std::int64_t> indices{features - 1};
  const std::vector<mf::PatchEdit> edits{{0, 0, tokens, -1, 0, features, -1, 0, features},
                                         {1, tokens - 1, 1, -1, 0, 1, 0, -1, 0}};
  mf::patch_rows<std::uint16_t>(hidden, layout, edits, indices, values);
  std::int64_t sum = 0;
  for (const auto word : hidden) sum += word;
  const std::int64_t untouched = static_cast<std::int64_t>(hidden.size()) - tokens * features - 1;
  expect(sum == 9 * tokens * features + 7 * untouched, "patches write their words and no others");
}

void refusals() {
  const std::vector<std::uint8_t> symbols{1, 2, 200};
  std::vector<std::int64_t> counts(48);
  bool refused = false;
  try {
    mf::histogram(symbols, 3, 16, counts);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  expect(refused, "a symbol outside the alphabet is refused");
}

}  // namespace

int main() {
  for (const std::int64_t n : {0, 1, 15, 16, 17, 997, 4099}) {
    for (const std::int64_t stride : {1, 5, 16, 40}) entropy(n, 16, stride);
  }
  for (const std::size_t tokens : {0U, 1U, 63U}) {
    for (const std::size_t channels : {1U, 7U, 127U}) planes(tokens, channels);
  }
  for (const std::int64_t tokens : {1, 3, 40}) {
    for (const std::int64_t features : {1, 7, 1023}) patches(tokens, features);
  }
  refusals();
  std::puts("core checks hold");
}
