// Runs every operation of the core on odd sizes under the sanitizers; values are checked by the Python tests.
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "bins.hpp"
#include "codelength.hpp"
#include "entropy.hpp"
#include "entropy_kernels.hpp"
#include "isa.hpp"
#include "patch.hpp"
#include "planes.hpp"
#include "predictive.hpp"
#include "value_shapes.hpp"

namespace mf = model_forensics;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

std::vector<std::int64_t> window_costs(std::int64_t window) {
  std::vector<std::int64_t> cost(static_cast<std::size_t>(window) + 1);
  for (std::size_t c = 1; c < cost.size(); ++c) {
    cost[c] = std::llround(static_cast<double>(c) * std::log2(static_cast<double>(c)) * 4294967296.0);
  }
  return cost;
}

void entropy(std::int64_t n, std::int64_t window, std::int64_t stride, std::int64_t alphabet) {
  std::vector<std::uint8_t> symbols(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i] = static_cast<std::uint8_t>(i * 37 % 251 % static_cast<std::size_t>(alphabet));
  }
  const auto cost = window_costs(window);
  const std::vector<std::int64_t> offsets{0, n / 3, n / 3, n};
  std::int64_t windows = 0;
  for (std::size_t row = 0; row < 3; ++row) {
    windows += mf::count_windows(offsets[row + 1] - offsets[row], window, stride);
  }
  std::vector<double> expected;
  for (const mf::Isa isa : {mf::Isa::portable, mf::Isa::avx2, mf::Isa::avx512}) {
    if (isa > mf::detected_isa()) continue;
    mf::use_isa(isa);
    std::vector<double> bits(static_cast<std::size_t>(windows), std::numeric_limits<double>::quiet_NaN());
    mf::entropy_windows(symbols, offsets, window, stride, alphabet, cost, bits);
    for (const double value : bits) expect(value >= 0.0 && value <= 8.0, "entropy is from 0 to 8 bits");
    if (expected.empty()) expected = bits;
    expect(bits == expected, "every instruction set gives the same bits");
  }
  mf::use_isa(mf::detected_isa());
}

// Rows beyond 2^31 and 2^32 symbols are cut right, without a row of that size.
void huge_rows() {
  constexpr std::int64_t huge = (std::int64_t{1} << 40) + 7;
  expect(mf::count_windows(huge, 256, 64) == (huge - 256) / 64 + 1, "windows of a huge row");
  expect(mf::count_windows(huge, 1, 1) == huge, "windows of a huge row, one symbol each");
  constexpr std::int64_t window = 256;
  constexpr std::int64_t stride = 64;
  const std::vector<std::int64_t> offsets{0, 100, huge, huge, 3 * huge};
  std::vector<std::int64_t> first_window{0};
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    first_window.push_back(first_window.back() + mf::count_windows(offsets[row + 1] - offsets[row], window, stride));
  }
  constexpr std::int64_t most = (std::int64_t{1} << 33) + 1;
  std::int64_t at = 0;
  std::int64_t symbols = 100;  // of the row that has no window
  std::size_t row = 0;
  while (at < first_window.back()) {
    const mf::Piece piece = mf::piece_at(at, first_window.back(), most, row, first_window, offsets, stride);
    expect(piece.count >= 1 && piece.count <= most, "a piece has its share of the windows");
    expect(piece.begin == symbols && piece.begin + (piece.count - 1) * stride + window <= offsets[piece.row + 1],
           "a piece follows the one before it and lies in its row");
    symbols = piece.end;
    at += piece.count;
    row = piece.row;
  }
  expect(symbols == offsets.back(), "every symbol of a row with windows belongs to a piece");
}

// The polynomials of the fast paths, for every mantissa that a float32 has: its bound is proved by trying all.
void excess() {
  for (std::uint32_t bits = 0; bits < (1U << 23); ++bits) {
    const float mantissa = std::bit_cast<float>(bits | 0x3F800000U);
    const double exact = std::log2(double(mantissa)) - (double(mantissa) - 1.0);
    const auto off = [exact](float got) { return std::fabs(double(got) - exact); };
    expect(off(mf::log2_excess(mantissa)) < mf::kExcessError, "the bound of the polynomial");
    expect(off(mf::log2_excess_in_sixteenths(mantissa)) < mf::kSixteenthsError, "the bound of the quadratics");
  }
}

std::vector<float> some_values(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = std::ldexp(static_cast<float>(i % 7) - 3.0F, int(i % 40) - 20);
  if (count != 0) values[0] = std::numeric_limits<float>::infinity();
  return values;
}

void planes(std::int64_t tokens, std::int64_t channels, mf::Scale scale) {
  const std::vector<std::int64_t> shapes{tokens, channels, 3, 0, tokens, channels};
  const mf::Sites sites = mf::read_sites(shapes, {5, 3});
  const auto values = some_values(std::size_t(sites.values));
  const std::vector<float> low(std::size_t(sites.channels), -20.0F);
  const std::vector<float> step(std::size_t(sites.channels), 0.7F);
  const mf::Grid grid{scale, 15, low, step};
  std::vector<std::uint8_t> symbols(values.size(), 0xA5);
  mf::quantize(values, grid, sites, symbols);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    expect(symbols[i] == mf::exact_symbol(values[i], scale, -20.0F, 0.7F, 15), "the symbol of the definition");
  }
  const std::int64_t alphabet = grid.alphabet();
  std::vector<std::int64_t> counts(std::size_t(sites.channels * alphabet), -1);
  mf::histogram({.symbols = {}, .values = values, .grid = &grid}, sites, alphabet, counts);
  std::int64_t total = 0;
  for (const auto count : counts) total += count;
  expect(total == sites.values, "every symbol is counted once");
  const std::vector<std::int32_t> cost(std::size_t(alphabet), 2);
  const std::vector<std::int32_t> tables(std::size_t(sites.channels), 0);
  std::vector<std::int64_t> channel(std::size_t(sites.channels), -1);
  std::vector<std::int64_t> token(std::size_t(sites.tokens), -1);
  std::vector<std::int64_t> site(sites.each.size(), -1);
  std::vector<std::int64_t> cell(std::size_t(sites.cells), -1);
  mf::codelength({.symbols = symbols, .values = {}, .grid = nullptr}, sites, {cost, alphabet, tables},
                 {channel, token, site, cell});
  for (const auto sum : channel) expect(sum == 2 * tokens, "cost per channel");
  for (const auto sum : site) expect(sum == 2 * tokens * channels || sum == 0, "cost per site");
  std::int64_t cells = 0;
  for (const auto sum : cell) cells += sum;
  expect(cells == 2 * sites.values, "cost of all blocks");
}

// Shapes beyond 32 bits, as arithmetic: nothing of that size is allocated.
// Every value counts once, and every instruction set gives the same bits.
void entries(std::int64_t count, std::int64_t sites) {
  constexpr std::int64_t channels = 50;
  constexpr std::int64_t levels = 32;
  auto values = some_values(std::size_t(count));
  for (float& value : values) value = value == 0.0F || std::isinf(value) ? 1.5F : value;
  std::vector<std::int64_t> channel(values.size());
  for (std::size_t i = 0; i < channel.size(); ++i) channel[i] = std::int64_t(i * 7 % channels);
  std::vector<std::int64_t> starts;
  for (std::int64_t site = 0; site <= sites; ++site) starts.push_back(site * site * count / (sites * sites));
  const std::vector<float> location(channels, -3.0F);
  const std::vector<float> scale(channels, 0.8F);
  const std::vector<float> positive(channels, 0.25F);
  const std::vector<std::uint8_t> degrees(channels, 1);
  const std::vector<double> bits(2 * levels, 3.0);
  const std::vector<double> expected(2, 2.5);
  const mf::PredictiveModel model{location, scale, degrees, positive, scale, bits, expected, 0.25, 0.01, 0.02, 100.0};
  std::vector<double> first;
  for (const mf::Isa isa : {mf::Isa::portable, mf::Isa::avx2, mf::Isa::avx512}) {
    if (isa > mf::detected_isa()) continue;
    mf::use_isa(isa);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    std::vector<double> excess(values.size(), nan);
    std::vector<double> presence(values.size(), nan);
    std::vector<std::uint8_t> symbols(values.size(), 0xA5);
    std::vector<double> sums(std::size_t(mf::kPredictiveSums * sites), nan);
    std::vector<std::int64_t> counts(std::size_t(sites * levels), -1);
    mf::predictive_bits(values, channel, starts, model, {excess, symbols, presence, sums, counts});
    std::int64_t total = 0;
    for (const auto symbol : counts) total += symbol;
    expect(total == count, "every symbol is counted once");
    std::vector<double> moments(4 * channels, 0.0);
    const auto row = [&](std::size_t k) { return std::span(moments).subspan(k * channels, channels); };
    mf::add_moments(values, channel, row(0), row(1), row(2), row(3));
    sums.insert(sums.end(), moments.begin(), moments.end());
    sums.insert(sums.end(), excess.begin(), excess.end());
    if (first.empty()) first = sums;
    expect(sums == first, "every instruction set gives the same bits");
  }
  mf::use_isa(mf::detected_isa());
  const std::vector<double> ones(values.size(), 1.0);
  std::vector<double> total(channels, -1.0);
  std::vector<double> squares(std::size_t(sites), -1.0);
  mf::bin_sums(ones, channel, starts, {}, total, squares);
  expect(std::accumulate(total.begin(), total.end(), 0.0) == double(count), "every entry is in one bin");
  expect(std::accumulate(squares.begin(), squares.end(), 0.0) == double(count), "every entry is of one site");
  const std::vector<double> quantile_levels{0.0, 0.5, 1.0};
  std::vector<std::int64_t> shapes(std::size_t(sites * mf::kShapeCounts), -1);
  std::vector<float> quantiles(std::size_t(sites * 3), 0.0F);
  mf::value_shapes(values, starts, 70, quantile_levels, shapes, quantiles);
  for (std::int64_t site = 0; site < sites; ++site) {
    const std::int64_t* of_site = shapes.data() + site * mf::kShapeCounts;
    expect(of_site[mf::kLookedAt] <= 70 && of_site[mf::kDistinct] <= of_site[mf::kLookedAt], "at most so many values");
  }
}

void tilings() {
  const std::int64_t tokens = (std::int64_t{1} << 33) + 7;
  const mf::Sites sites = mf::read_sites(std::vector<std::int64_t>{tokens, 2500, 3, 5}, {100, 7});
  const mf::Tiling tiling(sites, mf::kTileChannels);
  const mf::Tile last = tiling.tile(tiling.count() - 2);
  expect(last.site == 0 && last.first_channel == 2048 && last.channels == 452, "the last strip");
  expect(last.first_token + last.tokens == tokens, "the last token");
  expect(tiling.tile(tiling.count() - 1).site == 1, "the last site");
  expect(sites.each[1].first_value == tokens * 2500, "where the second site starts");
  const mf::Tile second = tiling.tile(1);
  expect(second.first_token == 64 && second.tokens == 36, "a tile ends with its block");
}

void refused(const char* what, const auto& call) {
  bool thrown = false;
  try {
    call();
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  expect(thrown, what);
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
  const mf::Sites sites = mf::read_sites(std::vector<std::int64_t>{1, 3});
  const mf::Input input{.symbols = symbols, .values = {}, .grid = nullptr};
  refused("a symbol outside the alphabet", [&] { mf::histogram(input, sites, 16, counts); });
  const std::vector<std::int32_t> cost(48);
  refused("a symbol without a cost", [&] { mf::codelength(input, sites, {cost, 16, {}}, {counts, {}, {}, {}}); });
  const std::int64_t big = std::int64_t{1} << 62;
  refused("sizes beyond 63 bits", [&] { mf::read_sites(std::vector<std::int64_t>{big, 4}); });
}

}  // namespace

int main() {
  for (const std::int64_t n : {0, 1, 15, 16, 17, 997, 4099}) {
    for (const std::int64_t stride : {1, 5, 16, 40}) {
      for (const std::int64_t alphabet : {16, 251, 256}) entropy(n, 16, stride, alphabet);
    }
  }
  for (const std::int64_t stride : {1, 16, 17, 48, 256, 257, 1000}) {
    for (const std::int64_t window : {1, 48, 255, 256, 257, 70'000}) {
      for (const std::int64_t alphabet : {16, 256}) entropy(100'003, window, stride, alphabet);
    }
  }
  huge_rows();
  excess();
  for (const mf::Isa isa : {mf::Isa::portable, mf::Isa::avx2, mf::Isa::avx512}) {
    if (isa > mf::detected_isa()) continue;
    mf::use_isa(isa);
    for (const std::int64_t tokens : {0, 1, 63, 130}) {
      for (const std::int64_t channels : {1, 7, 127, 1030}) {
        for (const int scale : {0, 1, 2, 3}) planes(tokens, channels, mf::Scale{scale});
      }
    }
  }
  tilings();
  for (const std::int64_t tokens : {1, 3, 40, 400}) {
    for (const std::int64_t features : {1, 7, 1023}) patches(tokens, features);
  }
  for (const std::int64_t count : {0, 1, 255, 256, 257, 3000}) {
    for (const std::int64_t sites : {1, 2, 9}) entries(count, sites);
  }
  refusals();
  std::puts("core checks hold");
}
