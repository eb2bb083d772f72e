// From the kind of an input to the kernel that was compiled for it.
#pragma once

#include "planes.hpp"
#include "source.hpp"

namespace model_forensics::cuda {

// Calls launch(source) with the source that `input` describes.
template <typename Launch>
void with_source(const Input& input, Launch launch) {
  const auto* floats = static_cast<const float*>(input.values);
  switch (input.scale) {
    case Scale::symbols:
      return launch(SymbolSource{static_cast<const std::uint8_t*>(input.values), input.alphabet, input.outside});
    case Scale::sign:
      return launch(FieldSource{floats, 31, 1U});
    case Scale::exponent:
      return launch(FieldSource{floats, 23, 0xFFU});
    case Scale::uniform:
      return launch(GridSource<false>{floats, input.low, input.step, input.levels});
    case Scale::log:
      return launch(GridSource<true>{floats, input.low, input.step, input.levels});
  }
  throw std::invalid_argument("there is no such scale");
}

inline void require_tiles(const DevicePlan& plan, std::int64_t tile_channels) {
  require_blocks(plan.tiles);
  if (plan.tile_channels != tile_channels) throw std::invalid_argument("the plan was made for another operation");
}

inline void require_alphabet(const Input& input) {
  if (input.alphabet < 1 || input.alphabet > 256) throw std::invalid_argument("alphabet must be from 1 to 256");
}

}  // namespace model_forensics::cuda
