// Windows with the instructions that every machine has.
#include <algorithm>

#include "entropy_kernels.hpp"

namespace model_forensics {

namespace {

constexpr double kFixedPoint = 4294967296.0;  // 2^32, the unit of the cost table
constexpr std::size_t kAlphabet = 256;
constexpr std::int64_t kSliders = 4;

// One window that moves: counts of its symbols and the exact sum of their costs.
template <typename Count>
struct Slider {
  std::array<Count, kAlphabet> counts{};
  std::int64_t sum = 0;
  const std::uint8_t* start = nullptr;
  double* bits = nullptr;

  void add(std::uint8_t symbol, const std::int64_t* delta) { sum += delta[counts[symbol]++]; }
  void remove(std::uint8_t symbol, const std::int64_t* delta) { sum -= delta[--counts[symbol]]; }
};

// Moves all of them by one stride, symbol by symbol in turn: what one waits for, the others fill.
template <typename Count, std::int64_t kCount>
void slide(Slider<Count>* sliders, const Windows& windows, const std::int64_t* delta) {
  const std::int64_t moved = std::min(windows.stride, windows.window);
  const std::int64_t entering = windows.stride + windows.window - moved;
  for (std::int64_t i = 0; i < moved; ++i) {
    for (std::int64_t s = 0; s < kCount; ++s) {
      sliders[s].remove(sliders[s].start[i], delta);
      sliders[s].add(sliders[s].start[entering + i], delta);
    }
  }
  for (std::int64_t s = 0; s < kCount; ++s) sliders[s].start += windows.stride;
}

template <typename Count, std::int64_t kCount>
void write(Slider<Count>* sliders, const SlidingCosts& costs) {
  for (std::int64_t s = 0; s < kCount; ++s) {
    *sliders[s].bits++ = static_cast<double>(costs.whole - sliders[s].sum) / costs.scale;
  }
}

// Cuts the windows into kCount sections that are walked together; the last takes what is over.
template <typename Count, std::int64_t kCount>
void slide_sections(const Windows& windows, const SlidingCosts& costs) {
  const std::int64_t* delta = costs.delta.data();
  const std::int64_t section = windows.count / kCount;
  std::array<Slider<Count>, static_cast<std::size_t>(kCount)> sliders;
  for (std::int64_t s = 0; s < kCount; ++s) {
    auto& slider = sliders[static_cast<std::size_t>(s)];
    slider.start = windows.symbols + s * section * windows.stride;
    slider.bits = windows.bits + s * section;
    for (std::int64_t i = 0; i < windows.window; ++i) slider.add(slider.start[i], delta);
  }
  write<Count, kCount>(sliders.data(), costs);
  for (std::int64_t i = 1; i < section; ++i) {
    slide<Count, kCount>(sliders.data(), windows, delta);
    write<Count, kCount>(sliders.data(), costs);
  }
  auto* last = &sliders.back();
  for (std::int64_t i = section * kCount; i < windows.count; ++i) {
    slide<Count, 1>(last, windows, delta);
    write<Count, 1>(last, costs);
  }
}

template <typename Count>
void slide_all(const Windows& windows, const SlidingCosts& costs) {
  // A section counts its first window anew, which must be little beside the rest.
  if (windows.count / kSliders >= std::max<std::int64_t>(1, 4 * windows.window / windows.stride)) {
    slide_sections<Count, kSliders>(windows, costs);
  } else {
    slide_sections<Count, 1>(windows, costs);
  }
}

// Sixteen counts modulo 256, of the even and of the odd symbols: a byte each, eight in a word.
struct Sixteen {
  std::uint64_t even = 0;
  std::uint64_t odd = 0;
};

constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;

// Byte by byte, without carries between bytes; the bytes of `small` are below 128.
std::uint64_t add_bytes(std::uint64_t word, std::uint64_t small) {
  return ((word & ~kHighBits) + small) ^ (word & kHighBits);
}

std::uint64_t subtract_bytes(std::uint64_t from, std::uint64_t word) {
  return ((from | kHighBits) - (word & ~kHighBits)) ^ (~(from ^ word) & kHighBits);
}

constexpr auto kOneOf = [] {
  std::array<std::uint64_t, 16> one{};
  for (std::size_t s = 0; s < 16; ++s) one[s] = std::uint64_t{1} << (4 * s);
  return one;
}();

// `before` and 16 symbols below 16. A word holds sixteen counts of four bits, enough for eight symbols.
Sixteen count_sixteen(const std::uint8_t* symbols, Sixteen before) {
  constexpr std::uint64_t kLowHalves = 0x0F0F0F0F0F0F0F0FULL;
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  for (int i = 0; i < 8; ++i) {
    first += kOneOf[symbols[i]];
    second += kOneOf[symbols[8 + i]];
  }
  return {add_bytes(before.even, (first & kLowHalves) + (second & kLowHalves)),
          add_bytes(before.odd, ((first >> 4) & kLowHalves) + ((second >> 4) & kLowHalves))};
}

std::int64_t savings_of_eight(std::uint64_t counts, const TallyCosts& costs) {
  std::int64_t sum = 0;
  for (int i = 0; i < 64; i += 8) sum += costs.saving[(counts >> i) & 0xFF];
  return sum;
}

}  // namespace

SlidingCosts::SlidingCosts(std::span<const std::int64_t> cost)
    : delta(cost.size() - 1), whole(cost.back()), scale(static_cast<double>(cost.size() - 1) * kFixedPoint) {
  for (std::size_t c = 0; c < delta.size(); ++c) delta[c] = cost[c + 1] - cost[c];
}

TallyCosts::TallyCosts(std::span<const std::int64_t> cost) {
  const auto window = static_cast<std::int64_t>(cost.size()) - 1;
  std::int64_t slope = 0;
  for (std::int64_t c = 1; c <= window; ++c) {
    slope = std::max(slope, (cost[static_cast<std::size_t>(c)] + c - 1) / c);
  }
  rest = cost.back() - slope * window;
  scale = static_cast<double>(window) * kFixedPoint;
  valid = window <= 256;
  for (std::int64_t c = 0; c <= window && valid; ++c) {
    const std::int64_t value = slope * c - cost[static_cast<std::size_t>(c)];
    valid = c == 256 ? value == saving[0] : value >= 0 && value < std::int64_t{1} << 40;
    if (!valid || c == 256) break;
    saving[static_cast<std::size_t>(c)] = value;
    for (std::size_t i = 0; i < byte.size(); ++i) {
      byte[i][static_cast<std::size_t>(c)] = static_cast<std::uint8_t>(value >> (8 * i));
    }
  }
}

void slide_windows(const Windows& windows, const SlidingCosts& costs) {
  if (windows.window < (1 << 16)) {
    slide_all<std::uint16_t>(windows, costs);
  } else {
    slide_all<std::uint32_t>(windows, costs);
  }
}

bool sixteen_serves(std::int64_t window, std::int64_t stride) {
  return window <= 256 && window % 16 == 0 && stride % 16 == 0 && stride <= window;
}

void sixteen_portable(const Windows& windows, const TallyCosts& costs) {
  // Counts from the start to every 16th symbol; a window's counts are the difference between its end and its start.
  constexpr std::int64_t kKept = 32;  // a power of two above 256 / 16
  std::array<Sixteen, kKept> counts{};
  const std::int64_t length = windows.window / 16;
  const std::int64_t step = windows.stride / 16;
  std::int64_t counted = 0;  // in units of 16 symbols
  for (std::int64_t i = 0; i < windows.count; ++i) {
    const std::int64_t start = i * step;
    for (; counted < start + length; ++counted) {
      counts[static_cast<std::size_t>((counted + 1) % kKept)] =
          count_sixteen(windows.symbols + 16 * counted, counts[static_cast<std::size_t>(counted % kKept)]);
    }
    const Sixteen& at_start = counts[static_cast<std::size_t>(start % kKept)];
    const Sixteen& at_end = counts[static_cast<std::size_t>((start + length) % kKept)];
    const std::int64_t savings = savings_of_eight(subtract_bytes(at_end.even, at_start.even), costs) +
                                 savings_of_eight(subtract_bytes(at_end.odd, at_start.odd), costs);
    windows.bits[i] = static_cast<double>(savings + costs.rest) / costs.scale;
  }
}

}  // namespace model_forensics
