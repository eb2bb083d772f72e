#include "entropy.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "checks.hpp"
#include "entropy_kernels.hpp"
#include "isa.hpp"
#include "parallel.hpp"

namespace model_forensics {

std::int64_t count_windows(std::int64_t length, std::int64_t window, std::int64_t stride) {
  return length < window ? 0 : (length - window) / stride + 1;
}

namespace {

constexpr std::int64_t kPieceSymbols = 1 << 16;   // still in the cache after the check of the symbols
constexpr std::int64_t kPieceWindows = 32;        // so many times the window, because a piece counts its first one anew
constexpr std::int64_t kThreadSymbols = 1 << 18;  // what waking a thread is worth

// Symbols outside the alphabet are never used as an index past a table, so they may be found on the way.
void require_below(const std::uint8_t* symbols, std::int64_t count, std::int64_t alphabet) {
  if (alphabet == kMaxAlphabet) return;
  const std::int64_t half = count / 2;  // two maxima that do not wait for each other
  std::uint8_t first = 0;
  std::uint8_t second = count % 2 == 1 ? symbols[count - 1] : std::uint8_t{0};
  for (std::int64_t i = 0; i < half; ++i) {
    first = std::max(first, symbols[i]);
    second = std::max(second, symbols[half + i]);
  }
  require(std::max(first, second) < alphabet, "a symbol is outside the alphabet");
}

// The kernel for one call, with the table that it needs.
class Kernel {
 public:
  Kernel(std::int64_t window, std::int64_t stride, std::int64_t alphabet, std::span<const std::int64_t> cost) {
    const bool sixteen = alphabet <= 16 && sixteen_serves(window, stride);
    const bool tally = avx512_bytes() && tally_serves(window, stride);
    if (sixteen || tally) tally_costs_.emplace(cost);
    if (tally_costs_ && tally_costs_->valid) {
      run_ = !sixteen ? tally_avx512 : avx512_bytes() ? sixteen_avx512 : sixteen_portable;
    } else {
      sliding_costs_.emplace(cost);
    }
  }

  void operator()(const Windows& windows) const {
    if (run_ != nullptr) {
      run_(windows, *tally_costs_);
    } else {
      slide_windows(windows, *sliding_costs_);
    }
  }

 private:
  void (*run_)(const Windows&, const TallyCosts&) = nullptr;
  std::optional<TallyCosts> tally_costs_;
  std::optional<SlidingCosts> sliding_costs_;
};

}  // namespace

void entropy_windows(std::span<const std::uint8_t> symbols, std::span<const std::int64_t> offsets,
                     std::int64_t window, std::int64_t stride, std::int64_t alphabet,
                     std::span<const std::int64_t> cost, std::span<double> bits) {
  require(window >= 1 && stride >= 1, "window and stride must be at least 1");
  require_alphabet(alphabet);
  require(length(cost) - 1 == window, "the cost table must hold window + 1 entries");
  require(!offsets.empty() && offsets.front() == 0 && offsets.back() == length(symbols),
          "offsets must run from 0 to the number of symbols");
  const std::size_t rows = offsets.size() - 1;
  std::vector<std::int64_t> first_window(rows + 1, 0);  // of each row, in the output
  for (std::size_t row = 0; row < rows; ++row) {
    const std::int64_t begin = offsets[row];
    require(begin <= offsets[row + 1] && offsets[row + 1] <= length(symbols), "offsets must not decrease");
    const std::int64_t count = count_windows(offsets[row + 1] - begin, window, stride);
    first_window[row + 1] = first_window[row] + count;
    if (count == 0) require_below(symbols.data() + begin, offsets[row + 1] - begin, alphabet);
  }
  const std::int64_t total = first_window[rows];
  require(length(bits) == total, "the output must hold one entry for each window");
  if (total == 0) return;

  const Kernel kernel(window, stride, alphabet, cost);
  const std::int64_t least = kPieceWindows * window;
  const std::int64_t most = std::max<std::int64_t>(1, std::max(kPieceSymbols, least) / stride);
  const std::int64_t share = std::max<std::int64_t>(1, std::max(kThreadSymbols, least) / stride);
  parallel_for(total, share, [&](std::int64_t begin, std::int64_t end) {
    const auto after = std::upper_bound(first_window.begin(), first_window.end(), begin);
    auto row = static_cast<std::size_t>(after - first_window.begin()) - 1;
    for (std::int64_t at = begin; at < end;) {
      const Piece piece = piece_at(at, end, most, row, first_window, offsets, stride);
      const std::uint8_t* start = symbols.data() + piece.begin;
      require_below(start, piece.end - piece.begin, alphabet);
      kernel({start, piece.count, window, stride, bits.data() + at});
      at += piece.count;
      row = piece.row;
    }
  });
}

Piece piece_at(std::int64_t at, std::int64_t stop, std::int64_t most, std::size_t row,
               std::span<const std::int64_t> first_window, std::span<const std::int64_t> offsets,
               std::int64_t stride) {
  while (first_window[row + 1] <= at) ++row;
  const std::int64_t count = std::min({stop, first_window[row + 1], at + most}) - at;
  const std::int64_t begin = offsets[row] + (at - first_window[row]) * stride;
  const bool last = at + count == first_window[row + 1];
  return {row, count, begin, last ? offsets[row + 1] : begin + count * stride};
}

}  // namespace model_forensics
