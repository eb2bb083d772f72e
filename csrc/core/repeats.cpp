#include "repeats.hpp"

#include <algorithm>
#include <cstring>

namespace model_forensics {

namespace {

constexpr std::uint64_t kBase = 0x9E3779B97F4A7C15ULL;  // odd; powers of it weigh the elements of a window
constexpr int kSlotBits = 16;                           // upper bits of the hash that name a slot

constexpr std::uint64_t power_of_base(std::size_t exponent) {
  std::uint64_t power = 1;
  for (std::size_t i = 0; i < exponent; ++i) power *= kBase;
  return power;
}

// The polynomial hash of a window that moves: sum of element k times kBase^(kShortestRepeat - 1 - k), modulo 2^64.
template <typename Word>
class Window {
 public:
  explicit Window(const std::uint8_t* elements) : elements_(elements) {
    for (std::size_t i = 0; i < kShortestRepeat; ++i) hash_ = hash_ * kBase + at(i);
  }

  std::uint64_t hash() const { return hash_; }
  std::size_t slot() const { return static_cast<std::size_t>(hash_ >> (64 - kSlotBits)); }

  void advance(std::size_t start) {
    hash_ = (hash_ - at(start) * kOldest) * kBase + at(start + kShortestRepeat);
  }

 private:
  static constexpr std::uint64_t kOldest = power_of_base(kShortestRepeat - 1);

  std::uint64_t at(std::size_t i) const {
    Word word = 0;
    std::memcpy(&word, elements_ + i * sizeof(Word), sizeof(Word));
    return word;
  }

  const std::uint8_t* elements_;
  std::uint64_t hash_ = 0;
};

struct Block {
  std::uint64_t hash = 0;
  std::size_t start = 0;
  bool known = false;
};

template <typename Word>
std::vector<Repeat> find(std::span<const std::uint8_t> bytes) {
  const std::size_t count = bytes.size() / sizeof(Word);
  std::vector<Repeat> repeats;
  if (count < 2 * kShortestRepeat) return repeats;
  const std::uint8_t* elements = bytes.data();
  const auto same = [elements](std::size_t a, std::size_t b, std::size_t length) {
    return std::memcmp(elements + a * sizeof(Word), elements + b * sizeof(Word), length * sizeof(Word)) == 0;
  };
  std::vector<Block> blocks(std::size_t{1} << kSlotBits);
  Window<Word> window(elements);
  Window<Word> behind(elements);  // moves over the blocks
  std::size_t at_behind = 0;
  std::size_t end_of_last = 0;
  std::size_t at = 0;
  std::size_t resume = 0;  // inside a repeat the window only moves
  for (;; ++at) {
    if (at >= resume) {
      while (at_behind + kShortestRepeat <= at) {
        blocks[behind.slot()] = {behind.hash(), at_behind, true};
        for (std::size_t i = 0; i < kShortestRepeat; ++i) behind.advance(at_behind + i);
        at_behind += kShortestRepeat;
      }
      const Block& block = blocks[window.slot()];
      if (block.known && block.hash == window.hash() && same(block.start, at, kShortestRepeat)) {
        std::size_t length = kShortestRepeat;
        while (at + length < count && same(block.start + length, at + length, 1)) ++length;
        repeats.push_back({at - end_of_last, length, at - block.start});
        end_of_last = at + length;
        resume = end_of_last;
      }
    }
    if (at + kShortestRepeat >= count) break;
    window.advance(at);
  }
  return repeats;
}

}  // namespace

std::vector<Repeat> find_repeats(std::span<const std::uint8_t> elements, std::size_t width) {
  if (width == 4) return find<std::uint32_t>(elements);
  if (width == 2) return find<std::uint16_t>(elements);
  return find<std::uint8_t>(elements);
}

std::size_t repeated(const std::vector<Repeat>& repeats) {
  std::size_t sum = 0;
  for (const auto& repeat : repeats) sum += repeat.length;
  return sum;
}

std::vector<std::uint8_t> without_repeats(std::span<const std::uint8_t> elements, std::size_t width,
                                          const std::vector<Repeat>& repeats) {
  std::vector<std::uint8_t> left;
  left.reserve(elements.size());
  std::size_t at = 0;
  for (const auto& repeat : repeats) {
    const auto gap = elements.subspan(at, repeat.gap * width);
    left.insert(left.end(), gap.begin(), gap.end());
    at += (repeat.gap + repeat.length) * width;
  }
  const auto rest = elements.subspan(at);
  left.insert(left.end(), rest.begin(), rest.end());
  return left;
}

void with_repeats(std::span<const std::uint8_t> left, std::size_t width, const std::vector<Repeat>& repeats,
                  std::span<std::uint8_t> elements) {
  std::size_t taken = 0;
  std::size_t at = 0;
  const auto take = [&](std::size_t bytes) {
    std::copy_n(left.begin() + static_cast<std::ptrdiff_t>(taken), bytes,
                elements.begin() + static_cast<std::ptrdiff_t>(at));
    taken += bytes;
    at += bytes;
  };
  for (const auto& repeat : repeats) {
    take(repeat.gap * width);
    const std::size_t distance = repeat.distance * width;
    // One by one: a repeat may reach into itself.
    for (const std::size_t end = at + repeat.length * width; at < end; ++at) elements[at] = elements[at - distance];
  }
  take(left.size() - taken);
}

}  // namespace model_forensics
