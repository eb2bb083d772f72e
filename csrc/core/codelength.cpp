#include "codelength.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <mutex>

#include "checks.hpp"
#include "costs.hpp"

namespace model_forensics {

namespace {

// Sums that are complete only when every tile was fine; then they go to the caller's arrays.
struct Totals {
  std::vector<std::int64_t> channel;
  std::vector<std::int64_t> token;
  std::vector<std::int64_t> site;
  std::vector<std::int64_t> cell;
  std::mutex adding;
  std::atomic<bool> outside_alphabet = false;

  explicit Totals(const CostSums& wanted)
      : channel(wanted.channel.size()),
        token(wanted.token.size()),
        site(wanted.site.size()),
        cell(wanted.cell.size()) {}
};

std::int64_t* at(std::vector<std::int64_t>& sums, std::int64_t index) {
  return sums.data() + static_cast<std::size_t>(index);
}

// Sums one strip of channels, and adds it to the totals when it is done.
class Summer {
 public:
  Summer(const Sites& sites, const StaticModel& model, std::int64_t largest, Totals& totals)
      : sites_(sites), model_(model), totals_(totals) {
    costs_ = {table_.data(), model.alphabet, largest};
  }

  void open(const Tile& tile) {
    site_ = &sites_.each[static_cast<std::size_t>(tile.site)];
    opened_ = tile;
    std::fill_n(channel_.begin(), tile.channels, 0);
    for (std::int64_t c = 0; c < tile.channels; ++c) {
      const auto channel = static_cast<std::size_t>(site_->first_channel + tile.first_channel + c);
      const std::int64_t table = model_.tables.empty() ? std::int64_t(channel) : model_.tables[channel];
      table_[static_cast<std::size_t>(c)] = model_.cost.data() + table * model_.alphabet;
    }
  }

  void add(const Tile& tile, TileSymbols symbols) {
    const bool tokens = !totals_.token.empty();
    if (totals_.cell.empty() && !tokens) {
      check(add_costs(tile, symbols, costs_, channel_.data(), nullptr));
      return;
    }
    std::fill_n(tile_channel_.begin(), tile.channels, 0);
    std::fill_n(tile_token_.begin(), tile.tokens, 0);
    check(add_costs(tile, symbols, costs_, tile_channel_.data(), tokens ? tile_token_.data() : nullptr));
    for (std::int64_t c = 0; c < tile.channels; ++c) {
      channel_[static_cast<std::size_t>(c)] += tile_channel_[static_cast<std::size_t>(c)];
    }
    const std::scoped_lock lock(totals_.adding);
    if (tokens) {
      std::int64_t* token = at(totals_.token, site_->first_token + tile.first_token);
      for (std::int64_t t = 0; t < tile.tokens; ++t) token[t] += tile_token_[static_cast<std::size_t>(t)];
    }
    if (!totals_.cell.empty()) add_cells(tile);
  }

  void close() {
    std::int64_t sum = 0;
    for (std::int64_t c = 0; c < opened_.channels; ++c) sum += channel_[static_cast<std::size_t>(c)];
    const std::scoped_lock lock(totals_.adding);
    if (!totals_.site.empty()) *at(totals_.site, opened_.site) += sum;
    if (totals_.channel.empty()) return;
    std::int64_t* channel = at(totals_.channel, site_->first_channel + opened_.first_channel);
    for (std::int64_t c = 0; c < opened_.channels; ++c) channel[c] += channel_[static_cast<std::size_t>(c)];
  }

 private:
  void check(bool inside) {
    if (!inside) totals_.outside_alphabet = true;
  }

  // A tile lies in one row of blocks; its channels may be of several.
  void add_cells(const Tile& tile) {
    const Block block = sites_.block;
    const std::int64_t across = (site_->channels - 1) / block.channels + 1;
    std::int64_t* row = at(totals_.cell, site_->first_cell + tile.first_token / block.tokens * across);
    for (std::int64_t c = 0; c < tile.channels;) {
      const std::int64_t cell = (tile.first_channel + c) / block.channels;
      const std::int64_t inside = (tile.first_channel + c) % block.channels;
      const std::int64_t end = c + std::min(block.channels - inside, tile.channels - c);
      std::int64_t sum = 0;
      for (; c < end; ++c) sum += tile_channel_[static_cast<std::size_t>(c)];
      row[cell] += sum;
    }
  }

  const Sites& sites_;
  const StaticModel& model_;
  Totals& totals_;
  const Site* site_ = nullptr;
  Tile opened_;
  CostTables costs_;
  std::array<const std::int32_t*, kTileChannels> table_;
  alignas(64) std::array<std::int64_t, kTileChannels> channel_;
  alignas(64) std::array<std::int64_t, kTileChannels> tile_channel_;
  std::array<std::int64_t, kTileTokens> tile_token_;
};

void require_model(const Input& input, const Sites& sites, const StaticModel& model) {
  require_alphabet(model.alphabet);
  if (input.grid != nullptr) {
    require(input.grid->alphabet() == model.alphabet, "cost must have a column for each symbol of the grid");
  }
  require(length(model.cost) % model.alphabet == 0, "cost must be [tables, alphabet]");
  const std::int64_t tables = length(model.cost) / model.alphabet;
  if (model.tables.empty()) {
    require(tables == sites.channels, "cost must be [channels, alphabet] where there are no tables");
    return;
  }
  require(length(model.tables) == sites.channels, "tables must be [channels]");
  const auto [least, most] = std::minmax_element(model.tables.begin(), model.tables.end());
  require(*least >= 0 && *most < tables, "tables names a table that is not there");
}

void require_sums(const Sites& sites, const CostSums& sums) {
  const auto fits = [](std::span<std::int64_t> out, std::int64_t size) { return out.empty() || length(out) == size; };
  require(fits(sums.channel, sites.channels), "the sums per channel must be [channels]");
  require(fits(sums.token, sites.tokens), "the sums per token must be [tokens]");
  require(fits(sums.site, length(std::span(sites.each))), "the sums per site must be [sites]");
  require(fits(sums.cell, sites.cells), "the sums per block must be [blocks]");
}

std::int64_t largest_cost(std::span<const std::int32_t> cost) {
  std::int32_t least = 0;
  std::int32_t most = 0;
  for (const std::int32_t value : cost) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  return std::max(-std::int64_t{least}, std::int64_t{most});
}

}  // namespace

void codelength(const Input& input, const Sites& sites, const StaticModel& model, const CostSums& sums) {
  require_input(input, sites);
  require_model(input, sites, model);
  require_sums(sites, sums);
  const std::int64_t largest = largest_cost(model.cost);
  require(largest == 0 || sites.values <= std::numeric_limits<std::int64_t>::max() / largest,
          "the sums could exceed 63 bits");
  Totals totals(sums);
  for_each_tile(input, sites, kTileChannels, [&] { return Summer(sites, model, largest, totals); });
  require(!totals.outside_alphabet, "a symbol is outside the alphabet");
  std::copy(totals.channel.begin(), totals.channel.end(), sums.channel.begin());
  std::copy(totals.token.begin(), totals.token.end(), sums.token.begin());
  std::copy(totals.site.begin(), totals.site.end(), sums.site.begin());
  std::copy(totals.cell.begin(), totals.cell.end(), sums.cell.begin());
}

}  // namespace model_forensics
