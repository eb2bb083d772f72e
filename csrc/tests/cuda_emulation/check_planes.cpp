#include "check.hpp"

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

}  // namespace

void check_planes() {
  check_plan();
  check_outside();
  unsigned seed = 0;
  for (const Shapes& shapes : kShapes) {
    for (const int levels : {1, 15, 63, 64, 255}) {
      for (const auto scale : {cuda::Scale::uniform, cuda::Scale::log, cuda::Scale::sign, cuda::Scale::exponent}) {
        check_quantize(make_case(scale, shapes, levels, ++seed));
        check_histogram(make_case(scale, shapes, levels, ++seed));
      }
      check_histogram(make_case(cuda::Scale::symbols, shapes, levels, ++seed));
    }
  }
}

}  // namespace emulation_check
