#include "value_shapes.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "checks.hpp"
#include "parallel.hpp"

namespace model_forensics {

namespace {

constexpr int kUnusedByBfloat16 = 16;              // low bits of a float32
constexpr std::uint32_t kLowBits = (1U << kUnusedByBfloat16) - 1;
constexpr std::int64_t kThreadEntries = 1 << 14;   // what waking a thread is worth
constexpr std::size_t kFewKeys = 64;               // sorted by comparing
constexpr std::size_t kDigits = 4;

using Keys = std::vector<std::uint32_t>;

// Byte by byte, the least significant first; one in which all keys agree costs nothing.
void sort_keys(Keys& keys, Keys& spare) {
  if (keys.size() <= kFewKeys) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  std::array<std::array<std::uint32_t, 256>, kDigits> counts{};
  std::uint32_t used = 0;  // bits that some key has
  for (const std::uint32_t key : keys) used |= key;
  const std::size_t digits = (static_cast<std::size_t>(std::bit_width(used)) + 7) / 8;
  for (const std::uint32_t key : keys) {
    for (std::size_t digit = 0; digit < digits; ++digit) ++counts[digit][key >> (8 * digit) & 0xFF];
  }
  spare.resize(keys.size());
  for (std::size_t digit = 0; digit < digits; ++digit) {
    auto& count = counts[digit];
    if (count[keys.front() >> (8 * digit) & 0xFF] == keys.size()) continue;
    std::uint32_t place = 0;
    for (std::uint32_t& of_byte : count) {
      const std::uint32_t next = place + of_byte;
      of_byte = place;
      place = next;
    }
    for (const std::uint32_t key : keys) spare[count[key >> (8 * digit) & 0xFF]++] = key;
    keys.swap(spare);
  }
}

class SiteShape {
 public:
  SiteShape(std::span<const float> values, std::int64_t most, std::span<const double> levels)
      : values_(values), most_(most), levels_(levels) {}

  void look(std::int64_t begin, std::int64_t end, std::int64_t* counts, float* quantiles) {
    const std::int64_t low_mantissa = gather(begin, end);
    sort_keys(keys_, spare_);
    std::fill_n(counts, kShapeCounts, 0);
    std::fill_n(quantiles, levels_.size(), std::numeric_limits<float>::quiet_NaN());
    if (keys_.empty()) return;
    counts[kLookedAt] = length(std::span(keys_));
    counts[kLowMantissa] = low_mantissa;
    count_runs(counts);
    for (std::size_t k = 0; k < levels_.size(); ++k) {
      const auto rank = static_cast<std::size_t>(std::floor(levels_[k] * static_cast<double>(keys_.size() - 1)));
      quantiles[k] = std::bit_cast<float>(keys_[rank] >> 1 << unused_);
    }
  }

 private:
  // Keys order by magnitude, then by sign; where no value has a set bit below bfloat16's mantissa, they have two bytes.
  // Returns how many values have one.
  std::int64_t gather(std::int64_t begin, std::int64_t end) {
    const std::int64_t stride = std::max<std::int64_t>(1, (end - begin + most_ - 1) / most_);
    keys_.clear();
    std::int64_t low_mantissa = 0;
    for (std::int64_t i = begin; i < end; i += stride) {
      const auto bits = std::bit_cast<std::uint32_t>(values_[static_cast<std::size_t>(i)]);
      low_mantissa += (bits & kLowBits) != 0 ? 1 : 0;
      keys_.push_back(std::rotl(bits, 1));
    }
    unused_ = low_mantissa == 0 ? kUnusedByBfloat16 : 0;
    if (unused_ != 0) {
      for (std::uint32_t& key : keys_) key = (key >> (unused_ + 1) << 1) | (key & 1U);
    }
    return low_mantissa;
  }

  void count_runs(std::int64_t* counts) const {
    const std::uint32_t top = keys_.back() >> 1;
    std::int64_t run = 0;
    std::int64_t longest = 0;
    std::int64_t distinct = 1;
    std::uint32_t previous = keys_.front();
    for (const std::uint32_t key : keys_) {
      const bool same = key == previous;
      distinct += same ? 0 : 1;
      run = same ? run + 1 : 1;
      longest = std::max(longest, run);
      previous = key;
    }
    counts[kDistinct] = distinct;
    counts[kMostFrequent] = longest;
    const auto first = std::lower_bound(keys_.begin(), keys_.end(), top << 1);
    counts[kSaturated] = keys_.end() - first;
  }

  std::span<const float> values_;
  std::int64_t most_;
  std::span<const double> levels_;
  int unused_ = 0;  // low bits of a magnitude that its key leaves out
  Keys keys_;
  Keys spare_;
};

}  // namespace

void value_shapes(std::span<const float> values, std::span<const std::int64_t> starts, std::int64_t most,
                  std::span<const double> levels, std::span<std::int64_t> counts, std::span<float> quantiles) {
  require_starts(starts, length(values));
  require(most >= 1 && most <= std::numeric_limits<std::int32_t>::max(), "most must be from 1 to 2^31 - 1");
  for (const double level : levels) require(level >= 0.0 && level <= 1.0, "a level must be from 0 to 1");
  const std::int64_t sites = length(starts) - 1;
  require(length(counts) == sites * kShapeCounts && length(quantiles) == sites * length(levels),
          "an output has the wrong size");
  if (sites == 0) return;
  const std::int64_t grain = 1 + sites * kThreadEntries / std::max<std::int64_t>(1, length(values));
  parallel_for(sites, grain, [&](std::int64_t begin, std::int64_t end) {
    SiteShape shape(values, most, levels);
    for (std::int64_t site = begin; site < end; ++site) {
      const auto at = static_cast<std::size_t>(site);
      shape.look(starts[at], starts[at + 1], counts.data() + site * kShapeCounts,
                 quantiles.data() + site * length(levels));
    }
  });
}

}  // namespace model_forensics
