// Sums of costs over a tile of symbols.
#pragma once

#include <cstdint>

#include "tiles.hpp"

namespace model_forensics {

// The tables of a strip of channels: table[c] holds `alphabet` costs. All |cost| <= largest.
struct CostTables {
  const std::int32_t* const* table = nullptr;
  std::int64_t alphabet = 0;
  std::int64_t largest = 0;
};

// Adds to channel_sums [tile.channels] and, unless it is null, to token_sums [tile.tokens].
// Returns false, with the sums unspecified, if a symbol is not below the alphabet.
bool add_costs(const Tile& tile, TileSymbols symbols, const CostTables& costs, std::int64_t* channel_sums,
               std::int64_t* token_sums);

}  // namespace model_forensics
