#include "planes.hpp"

#include <algorithm>
#include <mutex>

#include "checks.hpp"

namespace model_forensics {

namespace {

constexpr std::int64_t kCounters = 1 << 16;  // of 32 bits: a quarter of a second-level cache
constexpr std::int64_t kColumns = 64;        // of a tile counted together: their counters stay in the first-level cache

// Counts one strip of channels in 32 bits, and adds them to the result when it is done.
class Counter {
 public:
  Counter(const Sites& sites, std::int64_t alphabet, std::int64_t width, std::span<std::int64_t> counts,
          std::mutex& writing)
      : sites_(sites), alphabet_(alphabet), counts_(counts), writing_(writing) {
    counters_.resize(static_cast<std::size_t>(width * alphabet));
  }

  void open(const Tile& tile) {
    tile_ = tile;
    std::fill_n(counters_.begin(), tile.channels * alphabet_, 0U);
    tokens_ = 0;
  }

  void add(const Tile& tile, TileSymbols symbols) {
    if (tokens_ > kMostTokens) {
      close();
      open(tile);
    }
    tokens_ += tile.tokens;
    for (std::int64_t first = 0; first < tile.channels; first += kColumns) {
      const std::int64_t columns = std::min(kColumns, tile.channels - first);
      for (std::int64_t row = 0; row < tile.tokens; ++row) {
        count_row(symbols.first + row * symbols.stride + first, columns, counters_.data() + first * alphabet_);
      }
    }
  }

  void close() {
    const std::int64_t first = sites_.each[static_cast<std::size_t>(tile_.site)].first_channel + tile_.first_channel;
    std::int64_t* out = counts_.data() + first * alphabet_;
    const std::scoped_lock lock(writing_);
    for (std::int64_t i = 0; i < tile_.channels * alphabet_; ++i) out[i] += counters_[static_cast<std::size_t>(i)];
  }

 private:
  static constexpr std::int64_t kMostTokens = 0xFFFFFFFF - kTileTokens;  // a counter cannot overflow before

  void count_row(const std::uint8_t* row, std::int64_t columns, std::uint32_t* counters) const {
    for (std::int64_t c = 0; c < columns; ++c) ++counters[c * alphabet_ + row[c]];
  }

  const Sites& sites_;
  std::int64_t alphabet_;
  std::span<std::int64_t> counts_;
  std::mutex& writing_;
  Tile tile_;
  std::int64_t tokens_ = 0;
  std::vector<std::uint32_t> counters_;
};

// Writes the symbols of each tile where they belong.
void quantize_tile(const Tile& tile, const Site& site, std::span<const float> values, const Strip& strip,
                   std::span<std::uint8_t> symbols) {
  const std::int64_t first = site.first_value + tile.first_token * site.channels + tile.first_channel;
  quantize_rows(values.data() + first, site.channels, tile.tokens, strip, symbols.data() + first, site.channels);
}

}  // namespace

void quantize(std::span<const float> values, const Grid& grid, const Sites& sites, std::span<std::uint8_t> symbols) {
  require_input({.symbols = {}, .values = values, .grid = &grid}, sites);
  require(symbols.size() == values.size(), "the output must have the shape of the values");
  const Tiling tiling(sites, kTileChannels);
  parallel_for(tiling.count(), tiling.grain(), [&](std::int64_t begin, std::int64_t end) {
    Strip strip;
    Tile last{.site = -1};
    for (std::int64_t index = begin; index < end; ++index) {
      const Tile tile = tiling.tile(index);
      const Site& site = sites.each[static_cast<std::size_t>(tile.site)];
      if (tile.site != last.site || tile.first_channel != last.first_channel) {
        prepare(grid, site.first_channel + tile.first_channel, tile.channels, strip);
      }
      quantize_tile(tile, site, values, strip, symbols);
      last = tile;
    }
  });
}

void histogram(const Input& input, const Sites& sites, std::int64_t alphabet, std::span<std::int64_t> counts) {
  require_alphabet(alphabet);
  require_input(input, sites);
  require(counts.size() / static_cast<std::size_t>(alphabet) == static_cast<std::size_t>(sites.channels) &&
              counts.size() % static_cast<std::size_t>(alphabet) == 0,
          "counts must be [channels, alphabet]");
  if (input.grid != nullptr) require(input.grid->alphabet() == alphabet, "the alphabet must be that of the grid");
  require_symbols(input.symbols, alphabet);
  std::fill(counts.begin(), counts.end(), 0);
  const std::int64_t width = std::min(kTileChannels, kCounters / alphabet);
  std::mutex writing;
  for_each_tile(input, sites, width, [&] { return Counter(sites, alphabet, width, counts, writing); });
}

}  // namespace model_forensics
