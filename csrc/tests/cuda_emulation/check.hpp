// What the checks share: inputs with every awkward value, and the plain definition of a symbol.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cuda_emulation.hpp"
#include "planes.hpp"
#include "sites.hpp"

namespace emulation_check {

namespace cuda = model_forensics::cuda;

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

using Shapes = std::vector<std::int64_t>;

inline cuda::DevicePlan device_plan(const cuda::Plan& plan) {
  return {plan.sites.data(), static_cast<std::int64_t>(plan.sites.size()) - 1, plan.sites.back().tile,
          plan.tile_channels, plan.tile_tokens};
}

// An input of several sites with all that its symbols need.
struct Case {
  cuda::Scale scale;
  Shapes shapes;
  int levels, alphabet;
  std::vector<std::uint8_t> bytes;  // of the values, from `skip` on: unaligned on purpose where skip is odd
  std::size_t skip;
  std::vector<float> low, step;
  std::vector<std::uint8_t> symbols;  // what the plain definition says
  std::vector<std::int64_t> channels;  // of each value, counted through all sites
  int outside = 0;

  cuda::Input input() {
    return {scale, bytes.data() + skip, low.data(), step.data(), levels, alphabet, &outside};
  }
  cuda::Plan plan(std::int64_t tile_channels, cuda::Blocks blocks = {}) const {
    return cuda::plan_sites(shapes.data(), static_cast<std::int64_t>(shapes.size() / 2), tile_channels, blocks);
  }
};

// A value at, next to or far from a border of the grid, or a special one.
float awkward(std::mt19937& random, cuda::Scale scale, float low, float step, int levels);

// The symbol by the plain definition.
std::uint8_t defined_symbol(cuda::Scale scale, float value, float low, float step, int levels);

Case make_case(cuda::Scale scale, const Shapes& shapes, int levels, unsigned seed);

// Sites of very different shapes, empty ones among them, with all ways in which a tile can be cut short.
inline const std::vector<Shapes> kShapes{
    {}, {0, 0}, {0, 5}, {5, 0}, {1, 1}, {3, 128}, {65, 33}, {9, 132}, {70, 257, 0, 3, 2, 0, 1, 31, 17, 8, 13, 300},
    {130, 4, 64, 129}};

}  // namespace emulation_check
