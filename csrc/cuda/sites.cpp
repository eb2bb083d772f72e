#include "sites.hpp"

#include <algorithm>
#include <stdexcept>

namespace model_forensics::cuda {

namespace {

// Enough tiles for some waves of blocks on the largest GPUs, few enough that loading a tile's tables does not count.
constexpr std::int64_t kWantedTiles = 2048;
constexpr std::int64_t kFewestTokens = 64;
constexpr std::int64_t kMostTokens = 1024;

std::int64_t product(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result)) {
    throw std::invalid_argument("a shape is negative or too large");
  }
  return result;
}

std::int64_t sum(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) throw std::invalid_argument("the shapes are too large together");
  return result;
}

}  // namespace

Plan plan_sites(const std::int64_t* shapes, std::int64_t sites, std::int64_t tile_channels, Blocks blocks) {
  Plan plan;
  plan.tile_channels = tile_channels;
  std::int64_t values = 0;
  for (std::int64_t s = 0; s < sites; ++s) values = sum(values, product(shapes[2 * s], shapes[2 * s + 1]));
  plan.tile_tokens = std::clamp(values / (plan.tile_channels * kWantedTiles), kFewestTokens, kMostTokens);
  Site next{};
  for (std::int64_t s = 0; s < sites; ++s) {
    next.tokens = shapes[2 * s];
    next.channels = shapes[2 * s + 1];
    plan.sites.push_back(next);
    next.value += next.tokens * next.channels;
    next.channel = sum(next.channel, next.channels);
    next.token = sum(next.token, next.tokens);
    const bool empty = next.tokens == 0 || next.channels == 0;
    if (blocks.tokens > 0) {
      next.block += blocks_along(next.tokens, blocks.tokens) * blocks_along(next.channels, blocks.channels);
    }
    if (!empty) {
      next.tile += blocks_along(next.tokens, plan.tile_tokens) * blocks_along(next.channels, plan.tile_channels);
    }
  }
  next.tokens = next.channels = 0;
  plan.sites.push_back(next);
  return plan;
}

}  // namespace model_forensics::cuda
