// Runs of elements that stood in the same chunk before: the same token's embedding, a row of padding.
//
// A model of single symbols cannot see them. They leave the elements before the planes are made, and come back behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace model_forensics {

inline constexpr std::size_t kShortestRepeat = 64;

// In elements: `gap` that are no part of a repeat come first, then `length` that stand `distance` before as well.
struct Repeat {
  std::size_t gap;
  std::size_t length;
  std::size_t distance;
};

// Greedy, from the front: a window of kShortestRepeat elements is looked up among the blocks of as many that begin at
// multiples of it and end at or before the window; the latest of a slot is known. A find is followed as far as it goes.
// `width` is 1, 2 or 4 bytes.
std::vector<Repeat> find_repeats(std::span<const std::uint8_t> elements, std::size_t width);

std::size_t repeated(const std::vector<Repeat>& repeats);

// What is left without the repeats.
std::vector<std::uint8_t> without_repeats(std::span<const std::uint8_t> elements, std::size_t width,
                                          const std::vector<Repeat>& repeats);

// The inverse. Every repeat must lie within `elements` and behind what it repeats, and the lengths must add up.
void with_repeats(std::span<const std::uint8_t> left, std::size_t width, const std::vector<Repeat>& repeats,
                  std::span<std::uint8_t> elements);

}  // namespace model_forensics
