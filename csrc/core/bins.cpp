#include "bins.hpp"

#include <algorithm>
#include <cmath>

#include "checks.hpp"

namespace model_forensics {

namespace {

template <bool kDistance>
void add_sites(std::span<const double> x, std::span<const std::int64_t> bins, std::span<const std::int64_t> starts,
               const BinDistance& distance, std::span<double> total, std::span<double> squares) {
  for (std::size_t site = 0; site < squares.size(); ++site) {
    const auto end = static_cast<std::size_t>(starts[site + 1]);
    double square = 0.0;
    // Neighbours are mostly of one bin. Its sum stays in a register meanwhile: through memory, each addition would wait
    // for the store of the one before.
    std::size_t bin = 0;
    double sum = total.empty() ? 0.0 : total[0];
    for (auto i = static_cast<std::size_t>(starts[site]); i < end; ++i) {
      const auto here = static_cast<std::size_t>(bins[i]);
      if (here != bin) {
        total[bin] = sum;
        bin = here;
        sum = total[bin];
      }
      double term = x[i];
      if constexpr (kDistance) {
        const double away = std::fabs(term - distance.centre[here]) / distance.spread[site];
        term = away > distance.limit ? distance.limit : away;
      }
      sum += term;
      square += term * term;
    }
    if (!total.empty()) total[bin] = sum;
    squares[site] = square;
  }
}

}  // namespace

void bin_sums(std::span<const double> x, std::span<const std::int64_t> bins, std::span<const std::int64_t> starts,
              const BinDistance& distance, std::span<double> total, std::span<double> squares) {
  require(bins.size() == x.size(), "bins must be [entries]");
  require_starts(starts, length(x));
  require_indices(bins, length(total));
  require(squares.size() + 1 == starts.size(), "squares must be [sites]");
  const bool distances = !distance.spread.empty();
  require(distances ? distance.centre.size() == total.size() && distance.spread.size() == squares.size()
                    : distance.centre.empty(),
          "a centre must be there for each bin, and a spread for each site");
  std::ranges::fill(total, 0.0);
  (distances ? add_sites<true> : add_sites<false>)(x, bins, starts, distance, total, squares);
}

}  // namespace model_forensics
