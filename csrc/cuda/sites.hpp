// Many sites, one after the other in memory, cut into tiles: one block of threads a tile.
#pragma once

#include <cstdint>
#include <vector>

namespace model_forensics::cuda {

// Where a site's part of everything begins. A plan has one more entry than there are sites; that one holds the totals.
struct Site {
  std::int64_t tokens, channels;  // its shape
  std::int64_t value;             // in the flat input
  std::int64_t channel, token;    // in results per channel, per token
  std::int64_t block;             // in results per token x channel block
  std::int64_t tile;              // in the launch
};

struct Blocks {  // of the result per block; zeros where nobody asks for it
  std::int64_t tokens = 0, channels = 0;
};

struct Plan {
  std::vector<Site> sites;  // [sites + 1]
  std::int64_t tile_channels = 0, tile_tokens = 0;
};

// Channels of a tile: as many as the tables of a block leave room for in shared memory.
inline constexpr std::int64_t kWideTile = 128, kNarrowTile = 32;
inline std::int64_t tile_channels(std::int64_t alphabet) { return alphabet <= 64 ? kWideTile : kNarrowTile; }

inline std::int64_t blocks_along(std::int64_t length, std::int64_t block) { return (length + block - 1) / block; }

// shapes: [sites, 2] of (tokens, channels), none negative; all values together within 63 bits.
Plan plan_sites(const std::int64_t* shapes, std::int64_t sites, std::int64_t tile_channels, Blocks blocks);

}  // namespace model_forensics::cuda
