#include <cmath>
#include <limits>

#include "check.hpp"
#include "grid.hpp"

namespace emulation_check {

float awkward(std::mt19937& random, const cuda::Scale scale, float low, float step, int levels) {
  using Limits = std::numeric_limits<float>;
  const float specials[] = {0.0F, -0.0F, Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(),
                            Limits::denorm_min(), -Limits::denorm_min(), Limits::min(), Limits::max(), -Limits::max(), 1.0F};
  const unsigned kind = static_cast<unsigned>(random()) % 8;
  if (kind == 0) return specials[random() % std::size(specials)];
  if (kind == 1) {
    const auto bits = static_cast<std::uint32_t>(random());  // any float at all
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  const double border = low + double(step) * (int(random() % unsigned(levels + 3)) - 1);
  float value = static_cast<float>(scale == cuda::Scale::log ? std::exp2(border) : border);
  if (kind == 2) value = std::nextafter(value, Limits::infinity());
  if (kind == 3) value = std::nextafter(value, -Limits::infinity());
  if (kind == 4 && scale == cuda::Scale::log) value = -value;
  if (kind >= 5) value *= 0.5F + static_cast<float>(random() % 1000) / 1000.0F;
  return value;
}

std::uint8_t defined_symbol(cuda::Scale scale, float value, float low, float step, int levels) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (scale == cuda::Scale::sign) return static_cast<std::uint8_t>(bits >> 31);
  if (scale == cuda::Scale::exponent) return static_cast<std::uint8_t>(bits >> 23);
  if (!std::isfinite(value)) return static_cast<std::uint8_t>(levels);
  double x = value;
  if (scale == cuda::Scale::log) {
    if (value == 0.0F) return 0;
    x = cuda::log2_exact_order(std::fabs(x));
  }
  const double position = std::floor((x - double(low)) / double(step));
  return static_cast<std::uint8_t>(std::fmin(std::fmax(position, 0.0), double(levels - 1)));
}

Case make_case(cuda::Scale scale, const Shapes& shapes, int levels, unsigned seed) {
  std::mt19937 random(seed);
  Case made{scale, shapes, levels, levels + 1, {}, seed % 2 * sizeof(float), {}, {}, {}, {}};
  if (scale == cuda::Scale::sign) made.alphabet = 2;
  if (scale == cuda::Scale::exponent) made.alphabet = 256;
  if (scale == cuda::Scale::symbols) made.skip = seed % 3;
  const std::size_t size = scale == cuda::Scale::symbols ? 1 : sizeof(float);
  const float steps[] = {0.7F, 0.125F, 1e-6F, 3e-39F, 1e30F, 3e38F, 1.0F};
  const float lows[] = {-20.0F, 0.0F, -1e30F, 1e-30F, -3.3F, 120.0F};
  made.bytes.resize(made.skip);
  for (std::size_t s = 0; s < shapes.size() / 2; ++s) {
    const std::size_t first = made.low.size();
    for (std::int64_t c = 0; c < shapes[2 * s + 1]; ++c) {
      const bool ordinary = random() % 2 == 0;
      made.low.push_back(ordinary ? -4.0F : lows[random() % std::size(lows)]);
      made.step.push_back(ordinary ? 0.37F : steps[random() % std::size(steps)]);
    }
    for (std::int64_t i = 0; i < shapes[2 * s] * shapes[2 * s + 1]; ++i) {
      const std::size_t channel = first + std::size_t(i % shapes[2 * s + 1]);
      made.channels.push_back(std::int64_t(channel));
      std::uint8_t value[sizeof(float)];
      if (scale == cuda::Scale::symbols) {
        value[0] = static_cast<std::uint8_t>(random() % unsigned(made.alphabet));
        made.symbols.push_back(value[0]);
      } else {
        const float number = awkward(random, scale, made.low[channel], made.step[channel], levels);
        std::memcpy(value, &number, sizeof number);
        made.symbols.push_back(defined_symbol(scale, number, made.low[channel], made.step[channel], levels));
      }
      made.bytes.insert(made.bytes.end(), value, value + size);
    }
  }
  made.bytes.shrink_to_fit();
  return made;
}

}  // namespace emulation_check
