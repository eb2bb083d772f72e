// Many sites in one call: where each site's values lie, and how work on them is cut into tiles.
//
// The data of all sites lie one after the other, each [tokens, channels] row by row. Channels, tokens and blocks are
// numbered through all sites.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace model_forensics {

// Tokens and channels of a block; zeros: no blocks.
struct Block {
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
};

struct Site {
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
  std::int64_t first_value = 0;
  std::int64_t first_channel = 0;
  std::int64_t first_token = 0;
  std::int64_t first_cell = 0;  // cells are the blocks of all sites, row by row
};

struct Sites {
  std::vector<Site> each;
  Block block;
  std::int64_t values = 0;
  std::int64_t channels = 0;
  std::int64_t tokens = 0;
  std::int64_t cells = 0;
};

// shapes: [sites, 2] tokens and channels. Throws std::invalid_argument for odd lengths, negative sizes, totals beyond
// 63 bits, and a block with only one side.
Sites read_sites(std::span<const std::int64_t> shapes, Block block = {});

inline constexpr std::int64_t kTileTokens = 64;
inline constexpr std::int64_t kTileChannels = 1024;

// Part of one site: at most kTileTokens tokens, all of one block row, and at most `width` channels.
struct Tile {
  std::int64_t site = 0;
  std::int64_t first_token = 0;  // within the site
  std::int64_t tokens = 0;
  std::int64_t first_channel = 0;  // within the site
  std::int64_t channels = 0;
};

// All tiles, numbered: site by site, in a site strip by strip of channels, in a strip downwards.
class Tiling {
 public:
  Tiling(const Sites& sites, std::int64_t width);

  std::int64_t count() const { return first_tile_.back(); }
  Tile tile(std::int64_t index) const;

  // Tiles that hold enough work for a thread to be worth waking.
  std::int64_t grain() const;

 private:
  std::int64_t tiles_down(const Site& site) const;

  const Sites& sites_;
  std::int64_t width_;
  std::vector<std::int64_t> first_tile_;  // of each site, and the total
};

}  // namespace model_forensics
