#include <cmath>

#include "check.hpp"
#include "grid.hpp"

namespace emulation_check {

namespace {

void check_quantize(Case made) {
  std::vector<std::uint8_t> symbols(made.symbols.size() + 1, 0xA5);
  for (const std::size_t skip : {0U, 1U}) {
    const cuda::Plan plan = made.plan(cuda::kWideTile);
    cuda::quantize(made.input(), device_plan(plan), symbols.data() + skip, nullptr);
    expect(std::equal(made.symbols.begin(), made.symbols.end(), symbols.begin() + std::ptrdiff_t(skip)), "quantize");
  }
}

void check_histogram(Case made) {
  std::vector<std::int64_t> wanted(made.low.size() * std::size_t(made.alphabet));
  for (std::size_t i = 0; i < made.symbols.size(); ++i) {
    ++wanted[std::size_t(made.channels[i] * made.alphabet + made.symbols[i])];
  }
  std::vector<std::int64_t> counts(wanted.size());
  const cuda::Plan plan = made.plan(cuda::tile_channels(made.alphabet));
  cuda::histogram(made.input(), device_plan(plan), counts.data(), nullptr);
  expect(counts == wanted, "histogram");
  expect(made.outside == 0, "no symbol is outside the alphabet");
}

void check_outside() {
  Case made = make_case(cuda::Scale::symbols, {70, 33}, 15, 0);
  made.bytes[5] = 16;
  std::vector<std::int64_t> counts(33 * 16);
  const cuda::Plan plan = made.plan(cuda::tile_channels(16));
  cuda::histogram(made.input(), device_plan(plan), counts.data(), nullptr);
  expect(made.outside == 1, "a symbol outside the alphabet is seen");
}

void check_plan() {
  const Shapes shapes{std::int64_t{1} << 40, 1 << 20, 3, std::int64_t{1} << 33};
  const cuda::Plan plan = cuda::plan_sites(shapes.data(), 2, cuda::kWideTile, {64, 64});
  expect(plan.sites[1].value == std::int64_t{1} << 60, "offsets have 64 bits");
  expect(plan.sites[2].value == (std::int64_t{1} << 60) + 3 * (std::int64_t{1} << 33), "offsets have 64 bits");
  expect(plan.sites[2].channel == (std::int64_t{1} << 33) + (1 << 20), "channels have 64 bits");
  expect(plan.sites[1].block == (std::int64_t{1} << 34) * (1 << 14), "blocks have 64 bits");
  for (const Shapes& wrong : {Shapes{-1, 2}, Shapes{std::int64_t{1} << 40, std::int64_t{1} << 40}}) {
    bool refused = false;
    try {
      cuda::plan_sites(wrong.data(), 1, cuda::kWideTile, {});
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    expect(refused, "an impossible shape is refused");
  }
}

float random_float(std::mt19937& random, int largest_exponent) {
  const int exponent = static_cast<int>(random() % unsigned(2 * largest_exponent)) - largest_exponent;
  return std::ldexp(1.0F + static_cast<float>(random() % (1U << 23)) / (1U << 23), exponent);
}

// A cheap level that calls itself certain is the exact one, on any grid; and on ordinary data nearly all are certain.
template <cuda::Scale scale>
void check_near_level() {
  constexpr bool kLogarithmic = scale == cuda::Scale::log;
  std::mt19937 random(7);
  for (int i = 0; i < 2000000; ++i) {
    const bool ordinary = i % 2 == 0;
    const int largest = ordinary ? 8 : 126;
    const float step = random_float(random, largest);
    const float low = (random() % 2 == 0 ? 1.0F : -1.0F) * random_float(random, largest);
    const int levels = 1 + static_cast<int>(random() % 255);
    const float value = awkward(random, scale, low, step, levels);
    unsigned level = 0;
    const bool certain = cuda::near_level<kLogarithmic>(value, cuda::channel_grid(low, step), float(levels) - 0.5F, level);
    expect(!certain || level == defined_symbol(scale, value, low, step, levels), "a certain level is the exact one");
  }
  int certain = 0;
  for (int i = 0; i < 100000; ++i) {
    unsigned level = 0;
    const float value = random_float(random, 6);
    certain += cuda::near_level<kLogarithmic>(value, cuda::channel_grid(-6.0F, 0.4F), 31.5F, level);
  }
  expect(certain > 99900, "the cheap way serves ordinary data");
}

}  // namespace

void check_planes() {
  check_near_level<cuda::Scale::uniform>();
  check_near_level<cuda::Scale::log>();
  check_plan();
  check_outside();
  constexpr int kLevels[] = {1, 15, 63, 64, 255};
  unsigned seed = 0;
  for (const Shapes& shapes : kShapes) {
    for (const auto scale : {cuda::Scale::uniform, cuda::Scale::log, cuda::Scale::sign, cuda::Scale::exponent}) {
      ++seed;
      check_quantize(make_case(scale, shapes, kLevels[seed % std::size(kLevels)], seed));
      check_histogram(make_case(scale, shapes, kLevels[(seed + 1) % std::size(kLevels)], seed + 1));
    }
    check_histogram(make_case(cuda::Scale::symbols, shapes, kLevels[seed % std::size(kLevels)], seed));
    check_histogram(make_case(cuda::Scale::log, shapes, kLevels[(seed + 2) % std::size(kLevels)], seed));
  }
}

}  // namespace emulation_check
