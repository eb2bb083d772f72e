#include "entropy.hpp"

#include <array>
#include <cmath>

#include "checks.hpp"

namespace model_forensics {

std::int64_t count_windows(std::int64_t length, std::int64_t window, std::int64_t stride) {
  return length < window ? 0 : (length - window) / stride + 1;
}

namespace {

constexpr double kFixedPoint = 4294967296.0;  // 2^32, the unit of the cost table

// Counts of the current window and the exact sum of their costs.
class WindowCounts {
 public:
  explicit WindowCounts(std::span<const std::int64_t> cost) : cost_(cost) {}

  void clear() {
    counts_.fill(0);
    sum_ = 0;
  }

  void add(std::uint8_t symbol) {
    const auto count = static_cast<std::size_t>(counts_[symbol]++);
    sum_ += cost_[count + 1] - cost_[count];
  }

  void remove(std::uint8_t symbol) {
    const auto count = static_cast<std::size_t>(--counts_[symbol]);
    sum_ -= cost_[count + 1] - cost_[count];
  }

  std::int64_t sum() const { return sum_; }

 private:
  std::span<const std::int64_t> cost_;
  std::array<std::int64_t, kMaxAlphabet> counts_{};
  std::int64_t sum_ = 0;
};

}  // namespace

void entropy_windows(std::span<const std::uint8_t> symbols, std::span<const std::int64_t> offsets,
                     std::int64_t window, std::int64_t stride, std::int64_t alphabet,
                     std::span<const std::int64_t> cost, std::span<double> bits) {
  require(window >= 1 && stride >= 1, "window and stride must be at least 1");
  require_alphabet(alphabet);
  require_symbols(symbols, alphabet);
  require(length(cost) == window + 1, "the cost table must hold window + 1 entries");
  require(!offsets.empty() && offsets.front() == 0 && offsets.back() == length(symbols),
          "offsets must run from 0 to the number of symbols");
  std::int64_t windows = 0;
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    require(offsets[row] <= offsets[row + 1], "offsets must not decrease");
    windows += count_windows(offsets[row + 1] - offsets[row], window, stride);
  }
  require(length(bits) == windows, "the output must hold one entry for each window");

  const double scale = static_cast<double>(window) * kFixedPoint;
  const std::int64_t whole = cost[static_cast<std::size_t>(window)];
  WindowCounts counts(cost);
  std::size_t written = 0;
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    const auto first = static_cast<std::size_t>(offsets[row]);
    const std::int64_t row_windows = count_windows(offsets[row + 1] - offsets[row], window, stride);
    for (std::int64_t index = 0; index < row_windows; ++index) {
      const std::uint8_t* start = symbols.data() + first + static_cast<std::size_t>(index * stride);
      if (index == 0 || stride >= window) {  // nothing of the previous window is left
        counts.clear();
        for (std::int64_t i = 0; i < window; ++i) counts.add(start[i]);
      } else {
        for (std::int64_t i = 0; i < stride; ++i) {
          counts.remove(start[i - stride]);
          counts.add(start[window - stride + i]);
        }
      }
      bits[written++] = static_cast<double>(whole - counts.sum()) / scale;
    }
  }
}

}  // namespace model_forensics
