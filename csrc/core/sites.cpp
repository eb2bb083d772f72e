#include "sites.hpp"

#include <limits>

#include "checks.hpp"

namespace model_forensics {

namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kWorthAThread = 1 << 17;  // values: some ten microseconds

std::int64_t blocks_in(std::int64_t length, std::int64_t block) {
  if (block == 0 || length == 0) return 0;
  return (length - 1) / block + 1;
}

std::int64_t product(std::int64_t a, std::int64_t b) {
  require(b == 0 || a <= kMost / b, "the sizes of the sites exceed 63 bits");
  return a * b;
}

std::int64_t sum(std::int64_t a, std::int64_t b) {
  require(a <= kMost - b, "the sizes of the sites exceed 63 bits");
  return a + b;
}

}  // namespace

Sites read_sites(std::span<const std::int64_t> shapes, Block block) {
  require(shapes.size() % 2 == 0, "shapes must be [sites, 2]");
  require(block.tokens >= 0 && block.channels >= 0 && (block.tokens == 0) == (block.channels == 0),
          "a block has at least one token and one channel");
  Sites sites;
  sites.block = block;
  sites.each.reserve(shapes.size() / 2);
  for (std::size_t i = 0; i < shapes.size(); i += 2) {
    const std::int64_t tokens = shapes[i];
    const std::int64_t channels = shapes[i + 1];
    require(tokens >= 0 && channels >= 0, "a site has a negative size");
    sites.each.push_back({tokens, channels, sites.values, sites.channels, sites.tokens, sites.cells});
    sites.values = sum(sites.values, product(tokens, channels));
    sites.channels = sum(sites.channels, channels);
    sites.tokens = sum(sites.tokens, tokens);
    sites.cells = sum(sites.cells, product(blocks_in(tokens, block.tokens), blocks_in(channels, block.channels)));
  }
  return sites;
}

Tiling::Tiling(const Sites& sites, std::int64_t width) : sites_(sites), width_(width), first_tile_{0} {
  first_tile_.reserve(sites.each.size() + 1);
  for (const Site& site : sites.each) {
    const std::int64_t tiles = tiles_down(site) * blocks_in(site.channels, width_);
    first_tile_.push_back(first_tile_.back() + tiles);
  }
}

std::int64_t Tiling::tiles_down(const Site& site) const {
  if (site.channels == 0 || site.tokens == 0) return 0;
  const std::int64_t rows = sites_.block.tokens;
  if (rows == 0) return blocks_in(site.tokens, kTileTokens);
  const std::int64_t whole = site.tokens / rows;
  return whole * blocks_in(rows, kTileTokens) + blocks_in(site.tokens % rows, kTileTokens);
}

Tile Tiling::tile(std::int64_t index) const {
  const auto after = std::upper_bound(first_tile_.begin(), first_tile_.end(), index);
  const std::int64_t number = after - first_tile_.begin() - 1;
  const Site& site = sites_.each[static_cast<std::size_t>(number)];
  const std::int64_t inside = index - first_tile_[static_cast<std::size_t>(number)];
  const std::int64_t down = tiles_down(site);
  const std::int64_t block_rows = sites_.block.tokens == 0 ? site.tokens : sites_.block.tokens;
  const std::int64_t per_block = blocks_in(block_rows, kTileTokens);
  Tile tile;
  tile.site = number;
  tile.first_channel = inside / down * width_;
  tile.channels = std::min(width_, site.channels - tile.first_channel);
  const std::int64_t block_first = inside % down / per_block * block_rows;
  const std::int64_t within = inside % down % per_block * kTileTokens;
  tile.first_token = block_first + within;
  tile.tokens = std::min({kTileTokens, block_rows - within, site.tokens - tile.first_token});
  return tile;
}

std::int64_t Tiling::grain() const {
  if (sites_.values == 0) return 1;
  const double tiles_per_value = static_cast<double>(count()) / static_cast<double>(sites_.values);
  return 1 + static_cast<std::int64_t>(tiles_per_value * static_cast<double>(kWorthAThread));
}

}  // namespace model_forensics
