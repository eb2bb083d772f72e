// One pass over the data of many sites, tile by tile, as symbols: given ones, or values put on a grid on the way.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grid.hpp"
#include "parallel.hpp"
#include "sites.hpp"

namespace model_forensics {

// Either symbols, or values with a grid.
struct Input {
  std::span<const std::uint8_t> symbols;
  std::span<const float> values;
  const Grid* grid = nullptr;
};

// Throws std::invalid_argument unless the input has the size of the sites and its grid fits them.
void require_input(const Input& input, const Sites& sites);

// Symbols of a tile: row r starts at first + r * stride.
struct TileSymbols {
  const std::uint8_t* first = nullptr;
  std::int64_t stride = 0;
};

// Reads tiles in order; a strip of a grid is prepared once for all tiles in it.
class TileReader {
 public:
  TileReader(const Input& input, const Sites& sites);
  void open(const Tile& tile);  // at the first tile of a strip
  TileSymbols read(const Tile& tile);

 private:
  const Input& input_;
  const Sites& sites_;
  Strip strip_;
  std::vector<std::uint8_t> quantized_;
};

// Worker: open(tile) at the first tile of a strip, add(tile, symbols), close() after the last. One worker lives in each
// range of tiles that a thread takes; `make` makes it.
template <typename Make>
void for_each_tile(const Input& input, const Sites& sites, std::int64_t width, Make make) {
  const Tiling tiling(sites, width);
  parallel_for(tiling.count(), tiling.grain(), [&](std::int64_t begin, std::int64_t end) {
    TileReader reader(input, sites);
    auto worker = make();
    Tile last{.site = -1};
    for (std::int64_t index = begin; index < end; ++index) {
      const Tile tile = tiling.tile(index);
      if (tile.site != last.site || tile.first_channel != last.first_channel) {
        if (last.site >= 0) worker.close();
        reader.open(tile);
        worker.open(tile);
      }
      worker.add(tile, reader.read(tile));
      last = tile;
    }
    if (last.site >= 0) worker.close();
  });
}

}  // namespace model_forensics
