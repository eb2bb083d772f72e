#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace model_forensics {

inline constexpr std::int64_t kMaxAlphabet = 256;

inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

inline std::int64_t length(auto span) { return static_cast<std::int64_t>(span.size()); }

inline void require_alphabet(std::int64_t alphabet) {
  require(alphabet >= 1 && alphabet <= kMaxAlphabet, "alphabet must be from 1 to 256");
}

// A symbol outside the alphabet would index past a table, so this is checked here as well as by the callers.
inline void require_symbols(std::span<const std::uint8_t> symbols, std::int64_t alphabet) {
  if (alphabet == kMaxAlphabet || symbols.empty()) return;
  require(*std::max_element(symbols.begin(), symbols.end()) < alphabet, "a symbol is outside the alphabet");
}

// starts: [parts + 1], where each part of `items` begins.
inline void require_starts(std::span<const std::int64_t> starts, std::int64_t items) {
  const bool whole = !starts.empty() && starts.front() == 0 && starts.back() == items;
  require(whole && std::is_sorted(starts.begin(), starts.end()),
          "starts must run from 0 to the number of entries and not decrease");
}

// Anything else would index past an array.
inline void require_indices(std::span<const std::int64_t> indices, std::int64_t count) {
  std::uint64_t largest = 0;  // below zero is large without a sign
  for (const std::int64_t index : indices) largest = std::max(largest, static_cast<std::uint64_t>(index));
  require(indices.empty() || largest < static_cast<std::uint64_t>(count), "a channel is not there");
}

// Whether `total` items are whole rows of `channels`; zero channels hold zero items.
inline bool divides(std::int64_t total, std::int64_t channels) {
  return channels > 0 ? total % channels == 0 : total == 0;
}

}  // namespace model_forensics
