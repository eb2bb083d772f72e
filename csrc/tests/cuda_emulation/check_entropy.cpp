#include <cmath>

#include "check.hpp"
#include "entropy.hpp"

namespace emulation_check {

namespace {

std::vector<std::int64_t> window_costs(std::int64_t window) {
  std::vector<std::int64_t> cost(std::size_t(window) + 1);
  for (std::size_t c = 1; c < cost.size(); ++c) cost[c] = std::llround(double(c) * std::log2(double(c)) * 4294967296.0);
  return cost;
}

// Each window counted on its own.
std::vector<double> plain_windows(const std::uint8_t* symbols, const std::vector<std::int64_t>& offsets,
                                  std::int64_t window, std::int64_t stride, const std::vector<std::int64_t>& cost) {
  std::vector<double> bits;
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    for (std::int64_t start = offsets[row]; start + window <= offsets[row + 1]; start += stride) {
      std::vector<std::size_t> counts(256);
      for (std::int64_t i = 0; i < window; ++i) ++counts[symbols[start + i]];
      std::int64_t sum = 0;
      for (const std::size_t count : counts) sum += cost[count];
      bits.push_back(static_cast<double>(cost.back() - sum) / (static_cast<double>(window) * 4294967296.0));
    }
  }
  return bits;
}

void check(std::int64_t length, std::int64_t window, std::int64_t stride, int alphabet, std::size_t skip) {
  std::mt19937 random(static_cast<unsigned>(length + window + stride));
  std::vector<std::uint8_t> memory(std::size_t(length) + skip);
  const unsigned kinds = length % 2 == 0 ? 1U : unsigned(alphabet);  // all the same, or all
  for (auto& symbol : memory) symbol = static_cast<std::uint8_t>(unsigned(alphabet) - 1 - random() % kinds);
  const std::uint8_t* symbols = memory.data() + skip;
  const std::int64_t cut = window > 2000 ? 16 : length / 3 / 16 * 16;
  const std::vector<std::int64_t> offsets{0, 0, std::min(cut, length), std::min(cut, length), length, length};
  const auto cost = window_costs(window);
  std::vector<std::int64_t> gain(cost.size() - 1);
  for (std::size_t c = 0; c < gain.size(); ++c) gain[c] = cost[c + 1] - cost[c];
  const auto wanted = plain_windows(symbols, offsets, window, stride, cost);
  const cuda::WindowPlan plan = cuda::plan_windows(offsets.data(), 5, window, stride);
  expect(plan.rows.back().window == std::int64_t(wanted.size()), "number of windows");
  std::vector<double> bits(wanted.size(), -1.0);
  cuda::entropy_windows(symbols, {plan.rows.data(), 5, plan.rows.back().section, plan.section_windows}, window, stride,
                        alphabet, gain.data(), cost.back(), bits.data(), nullptr);
  expect(bits == wanted, "entropy_windows");
}

void check_plan() {
  const std::vector<std::int64_t> offsets{0, std::int64_t{1} << 40, (std::int64_t{1} << 40) + 1000};
  const cuda::WindowPlan plan = cuda::plan_windows(offsets.data(), 2, 256, 64);
  const std::int64_t windows = ((std::int64_t{1} << 40) - 256) / 64 + 1;
  expect(plan.rows[1].window == windows && plan.rows[2].window == windows + 12, "windows have 64 bits");
  expect(plan.section_windows == 64 && plan.rows[1].section == (windows + 63) / 64, "sections have 64 bits");
}

}  // namespace

void check_entropy() {
  check_plan();
  for (const int alphabet : {2, 3, 16, 255, 256}) {
    for (const std::int64_t length : {0, 1, 15, 16, 255, 256, 257, 2048, 6007}) {
      check(length, 256, 64, alphabet, 0);
      check(length, 16, 16, alphabet, 16);
      check(length, 13, 5, alphabet, 1);
      check(length, 24, 16, alphabet, 0);
      check(length, 32, 24, alphabet, 0);
      check(length, 1, 7, alphabet, 0);
      check(length, 100, 99, alphabet, 0);
    }
  }
  check(70001, 2048, 64, 256, 0);
  check(70000, 2064, 4096, 16, 0);
  check(70001, 65535, 997, 7, 0);
  check(70001, 65536, 512, 256, 0);
  check(70000, 65536, 1024, 2, 0);
}

}  // namespace emulation_check
