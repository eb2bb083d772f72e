// Sites, grids and inputs from Python arguments, for the operations that work on many sites.
#pragma once

#include "arguments.hpp"
#include "tiles.hpp"

namespace model_forensics {

inline constexpr int kSymbols = -1;  // in place of a scale: the data are symbols

inline Grid grid_from(int scale, std::int64_t levels, const py::array& low, const py::array& step) {
  return {static_cast<Scale>(scale), levels, input<float>(low, "low"), input<float>(step, "step")};
}

// `grid` must outlive the input.
inline Input input_from(const py::array& data, int scale, const Grid& grid) {
  if (scale == kSymbols) return {.symbols = input<std::uint8_t>(data, "symbols"), .values = {}, .grid = nullptr};
  return {.symbols = {}, .values = input<float>(data, "values"), .grid = &grid};
}

}  // namespace model_forensics
