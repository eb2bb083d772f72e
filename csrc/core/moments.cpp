#include <algorithm>
#include <array>
#include <cmath>

#include "checks.hpp"
#include "isa.hpp"
#include "log2.hpp"
#include "predictive.hpp"
#include "prefetch.hpp"
#include "x86.hpp"

namespace model_forensics {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kAhead = 32;  // entries whose sums are on their way: channels of sparse recordings lie apart

using Magnitudes = std::array<double, kBlock>;

MODEL_FORENSICS_INLINE void log2_of(const float* values, std::size_t count, Magnitudes& out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = log2_in_order(static_cast<double>(std::fabs(values[i])));
}

void log2_portable(const float* values, std::size_t count, Magnitudes& out) { log2_of(values, count, out); }

#ifdef MODEL_FORENSICS_X86
__attribute__((target("avx2"))) void log2_avx2(const float* values, std::size_t count, Magnitudes& out) {
  log2_of(values, count, out);
}

MODEL_FORENSICS_AVX512 void log2_avx512(const float* values, std::size_t count, Magnitudes& out) {
  log2_of(values, count, out);
}
#endif

using Log2 = void (*)(const float*, std::size_t, Magnitudes&);

Log2 chosen_log2() {
#ifdef MODEL_FORENSICS_X86
  if (isa() >= Isa::avx512) return log2_avx512;
  if (isa() >= Isa::avx2) return log2_avx2;
#endif
  return log2_portable;
}

}  // namespace

void add_moments(std::span<const float> values, std::span<const std::int64_t> channels, std::span<double> count,
                 std::span<double> total, std::span<double> square, std::span<double> positive) {
  require(channels.size() == values.size(), "channels must be [entries]");
  require(total.size() == count.size() && square.size() == count.size() && positive.size() == count.size(),
          "the sums must be [channels]");
  require_indices(channels, length(count));
  const Log2 log2 = chosen_log2();
  Magnitudes magnitudes;
  for (std::size_t first = 0; first < values.size(); first += kBlock) {
    const std::size_t size = std::min(kBlock, values.size() - first);
    log2(values.data() + first, size, magnitudes);
    for (std::size_t i = 0; i < size; ++i) {
      const auto c = static_cast<std::size_t>(channels[first + i]);
      if (first + i + kAhead < values.size()) {
        const auto next = static_cast<std::size_t>(channels[first + i + kAhead]);
        for (const auto& sums : {count, total, square, positive}) prefetch(sums.data() + next);
      }
      count[c] += 1.0;
      total[c] += magnitudes[i];
      square[c] += magnitudes[i] * magnitudes[i];
      positive[c] += values[first + i] > 0.0F ? 1.0 : 0.0;
    }
  }
}

}  // namespace model_forensics
