#include "predictive.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "checks.hpp"
#include "isa.hpp"
#include "log2.hpp"
#include "parallel.hpp"
#include "prefetch.hpp"
#include "x86.hpp"

namespace model_forensics {

namespace {

constexpr std::size_t kBlock = 256;                  // entries whose numbers stay in the first-level cache
constexpr std::int64_t kThreadEntries = 1 << 14;     // what waking a thread is worth

using Column = std::array<double, kBlock>;

// What each entry of a block costs; the model's numbers first, which are gathered.
struct Block {
  alignas(64) std::array<float, kBlock> value;
  alignas(64) std::array<float, kBlock> location;
  alignas(64) std::array<float, kBlock> scale;
  alignas(64) std::array<float, kBlock> positive;
  alignas(64) std::array<std::int32_t, kBlock> symbol;
  alignas(64) Column difference;     // log2|x| - location
  alignas(64) Column precision;
  alignas(64) Column sign_bits;
  alignas(64) Column sign_excess;
  alignas(64) Column scale_bits;     // of a residual symbol's width
};

struct Constants {
  float half_range;
  float step_float;
  double step;
  double resolution;
  double least_scale;
  double last;  // symbol
};

MODEL_FORENSICS_INLINE void compute_block(const Constants& given, Block& block) {
  for (std::size_t i = 0; i < kBlock; ++i) {
    const double magnitude = log2_in_order(static_cast<double>(std::fabs(block.value[i])));
    block.difference[i] = magnitude - static_cast<double>(block.location[i]);
    const float low = block.location[i] - given.half_range * block.scale[i];
    const float step = given.step_float * block.scale[i];
    const double position = (magnitude - static_cast<double>(low)) / static_cast<double>(step);
    const double above = position > 0.0 ? position : 0.0;
    block.symbol[i] = static_cast<std::int32_t>(above < given.last ? above : given.last);
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    const double scale = static_cast<double>(block.scale[i]);
    const double bounded = scale > given.least_scale ? scale : given.least_scale;
    block.precision[i] = 1.0 / (bounded * bounded);
    block.scale_bits[i] = log2_in_order(given.step * scale / given.resolution);
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    const double up = static_cast<double>(block.positive[i]);
    const double down = 1.0 - up;
    const double up_bits = log2_in_order(up);
    const double down_bits = log2_in_order(down);
    block.sign_bits[i] = -(block.value[i] > 0.0F ? up_bits : down_bits);
    block.sign_excess[i] = block.sign_bits[i] - -(up * up_bits + down * down_bits);
  }
}

void compute_portable(const Constants& given, Block& block) { compute_block(given, block); }

#ifdef MODEL_FORENSICS_X86
__attribute__((target("avx2"))) void compute_avx2(const Constants& given, Block& block) { compute_block(given, block); }

MODEL_FORENSICS_AVX512 void compute_avx512(const Constants& given, Block& block) { compute_block(given, block); }
#endif

using Compute = void (*)(const Constants&, Block&);

Compute chosen_compute() {
#ifdef MODEL_FORENSICS_X86
  if (isa() >= Isa::avx512) return compute_avx512;
  if (isa() >= Isa::avx2) return compute_avx2;
#endif
  return compute_portable;
}

// Codes one site after the other; what it keeps between sites is memory.
class SiteCoder {
 public:
  SiteCoder(std::span<const float> values, std::span<const std::int64_t> channels, const PredictiveModel& model,
            const PredictiveBits& out, std::int64_t sites)
      : values_(values), channels_(channels), model_(model), out_(out), sites_(sites),
        levels_(length(model.bits) / length(model.expected)), compute_(chosen_compute()) {
    const double levels = static_cast<double>(levels_);
    constants_ = {static_cast<float>(levels / 2 * model.step), static_cast<float>(model.step), model.step,
                  model.resolution, model.least_scale, levels - 1.0};
    // Places behind a block's last entry are computed too, so they hold numbers that can be.
    block_.value.fill(1.0F);
    block_.location.fill(0.0F);
    block_.scale.fill(1.0F);
    block_.positive.fill(0.5F);
  }

  void code(std::int64_t site, std::int64_t begin, std::int64_t end) {
    std::array<double, kPredictiveSums> sums{};
    std::int64_t* counts = out_.counts.data() + site * levels_;
    std::fill_n(counts, levels_, 0);
    difference_.resize(static_cast<std::size_t>(end - begin));
    for (std::int64_t first = begin; first < end; first += static_cast<std::int64_t>(kBlock)) {
      const auto size = static_cast<std::size_t>(std::min(end - first, static_cast<std::int64_t>(kBlock)));
      gather(first, size);
      compute_(constants_, block_);
      add(first, size, sums, counts);
      std::copy_n(block_.difference.begin(), size, difference_.begin() + (first - begin));
    }
    const double drift = sums[kSumPrecision] > 0.0 ? sums[kSumDrift] / sums[kSumPrecision] : 0.0;
    for (std::int64_t i = begin; i < end; ++i) {
      const double scale = static_cast<double>(model_.scale[channel(i)]);
      const double residual = (difference_[static_cast<std::size_t>(i - begin)] - drift) / scale;
      sums[kSumSquares] += std::min(residual * residual, model_.largest_square);
    }
    for (std::size_t k = 0; k < sums.size(); ++k) {
      out_.sums[k * static_cast<std::size_t>(sites_) + static_cast<std::size_t>(site)] = sums[k];
    }
  }

 private:
  std::size_t channel(std::int64_t entry) const {
    return static_cast<std::size_t>(channels_[static_cast<std::size_t>(entry)]);
  }

  // Channels of sparse recordings lie apart: while a block is added up, the numbers of the next one are on their way.
  void ask_for(std::size_t channel) const {
    prefetch(model_.location.data() + channel);
    prefetch(model_.scale.data() + channel);
    prefetch(model_.positive.data() + channel);
    prefetch(model_.presence_gain.data() + channel);
    prefetch(model_.degrees.data() + channel);
  }

  void gather(std::int64_t first, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t c = channel(first + static_cast<std::int64_t>(i));
      block_.value[i] = values_[static_cast<std::size_t>(first) + i];
      block_.location[i] = model_.location[c];
      block_.scale[i] = model_.scale[c];
      block_.positive[i] = model_.positive[c];
    }
  }

  void add(std::int64_t first, std::size_t size, std::array<double, kPredictiveSums>& sums, std::int64_t* counts) {
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t at = static_cast<std::size_t>(first) + i;
      const std::size_t c = static_cast<std::size_t>(channels_[at]);
      if (at + kBlock < channels_.size()) ask_for(static_cast<std::size_t>(channels_[at + kBlock]));
      const std::size_t degrees = model_.degrees[c];
      const auto symbol = static_cast<std::size_t>(block_.symbol[i]);
      const double magnitude = model_.bits[degrees * static_cast<std::size_t>(levels_) + symbol];
      const double magnitude_excess = magnitude - model_.expected[degrees];
      const double gain = static_cast<double>(model_.presence_gain[c]);
      out_.symbols[at] = static_cast<std::uint8_t>(symbol);
      out_.excess[at] = magnitude_excess + block_.sign_excess[i];
      out_.presence[at] = gain;
      ++counts[symbol];
      sums[kSumMagnitude] += magnitude_excess;
      sums[kSumSign] += block_.sign_excess[i];
      sums[kSumPrecision] += block_.precision[i];
      sums[kSumDrift] += block_.precision[i] * block_.difference[i];
      sums[kSumPresence] += gain;
      sums[kSumStatic] += magnitude;
      sums[kSumAbsolute] += magnitude + block_.scale_bits[i] + block_.sign_bits[i];
    }
  }

  std::span<const float> values_;
  std::span<const std::int64_t> channels_;
  const PredictiveModel& model_;
  const PredictiveBits& out_;
  std::int64_t sites_;
  std::int64_t levels_;
  Compute compute_;
  Constants constants_;
  Block block_;
  std::vector<double> difference_;  // of all entries of the site
};

void require_model(const PredictiveModel& model) {
  const std::int64_t channels = length(model.location);
  require(length(model.scale) == channels && length(model.degrees) == channels && length(model.positive) == channels &&
              length(model.presence_gain) == channels,
          "the model's arrays must be [channels]");
  const std::int64_t classes = length(model.expected);
  require(classes >= 1 && length(model.bits) % classes == 0, "bits must be [classes, levels]");
  require_alphabet(length(model.bits) / classes);
  std::uint8_t largest = 0;
  for (const std::uint8_t degrees : model.degrees) largest = std::max(largest, degrees);
  require(largest < classes, "a class of degrees is not there");
}

}  // namespace

void predictive_bits(std::span<const float> values, std::span<const std::int64_t> channels,
                     std::span<const std::int64_t> starts, const PredictiveModel& model, const PredictiveBits& out) {
  require_model(model);
  require(channels.size() == values.size(), "channels must be [entries]");
  require_starts(starts, length(values));
  require_indices(channels, length(model.location));
  const std::int64_t sites = length(starts) - 1;
  const std::int64_t levels = length(model.bits) / length(model.expected);
  require(out.excess.size() == values.size() && out.symbols.size() == values.size() &&
              out.presence.size() == values.size() && length(out.sums) == kPredictiveSums * sites &&
              length(out.counts) == sites * levels,
          "an output has the wrong size");
  if (sites == 0) return;
  const std::int64_t grain = 1 + sites * kThreadEntries / std::max<std::int64_t>(1, length(values));
  parallel_for(sites, grain, [&](std::int64_t begin, std::int64_t end) {
    SiteCoder coder(values, channels, model, out, sites);
    for (std::int64_t site = begin; site < end; ++site) {
      const auto at = static_cast<std::size_t>(site);
      coder.code(site, starts[at], starts[at + 1]);
    }
  });
}

}  // namespace model_forensics
