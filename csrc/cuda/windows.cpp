#include <algorithm>
#include <stdexcept>

#include "entropy.hpp"

namespace model_forensics::cuda {

namespace {

constexpr std::int64_t kWantedSections = 1 << 17;  // threads that keep the largest GPUs busy

std::int64_t count_windows(std::int64_t length, std::int64_t window, std::int64_t stride) {
  return length < window ? 0 : (length - window) / stride + 1;
}

}  // namespace

WindowPlan plan_windows(const std::int64_t* offsets, std::int64_t rows, std::int64_t window, std::int64_t stride) {
  if (window < 1 || stride < 1) throw std::invalid_argument("window and stride must be at least 1");
  WindowPlan plan;
  Row next{};
  for (std::int64_t r = 0; r < rows; ++r) {
    if (offsets[r] > offsets[r + 1]) throw std::invalid_argument("offsets must not decrease");
    plan.rows.push_back({offsets[r], next.window, 0});
    next.window += count_windows(offsets[r + 1] - offsets[r], window, stride);
  }
  plan.rows.push_back({offsets[rows], next.window, 0});
  // Counting a section's first window costs as much as moving on by window / stride windows; sections are never so short
  // that this is more than half of the work.
  const std::int64_t shortest = stride >= window ? 1 : (window + stride - 1) / stride;
  plan.section_windows = std::clamp(next.window / kWantedSections, shortest, 16 * shortest);
  for (std::size_t r = 0; r + 1 < plan.rows.size(); ++r) {
    const std::int64_t windows = plan.rows[r + 1].window - plan.rows[r].window;
    plan.rows[r + 1].section = plan.rows[r].section + (windows + plan.section_windows - 1) / plan.section_windows;
  }
  return plan;
}

}  // namespace model_forensics::cuda
