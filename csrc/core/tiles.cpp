#include "tiles.hpp"

#include "checks.hpp"

namespace model_forensics {

void require_input(const Input& input, const Sites& sites) {
  if (input.grid == nullptr) {
    require(length(input.symbols) == sites.values, "the symbols must have the size of the sites");
    return;
  }
  require(length(input.values) == sites.values, "the values must have the size of the sites");
  require_grid(*input.grid, sites.channels);
}

TileReader::TileReader(const Input& input, const Sites& sites) : input_(input), sites_(sites) {
  if (input.grid != nullptr) quantized_.resize(static_cast<std::size_t>(kTileTokens * kTileChannels));
}

void TileReader::open(const Tile& tile) {
  if (input_.grid == nullptr) return;
  const Site& site = sites_.each[static_cast<std::size_t>(tile.site)];
  prepare(*input_.grid, site.first_channel + tile.first_channel, tile.channels, strip_);
}

TileSymbols TileReader::read(const Tile& tile) {
  const Site& site = sites_.each[static_cast<std::size_t>(tile.site)];
  const std::int64_t first = site.first_value + tile.first_token * site.channels + tile.first_channel;
  if (input_.grid == nullptr) return {input_.symbols.data() + first, site.channels};
  quantize_rows(input_.values.data() + first, site.channels, tile.tokens, strip_, quantized_.data(), tile.channels);
  return {quantized_.data(), tile.channels};
}

}  // namespace model_forensics
