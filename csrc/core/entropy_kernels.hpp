// The ways to compute windows; entropy.cpp chooses among them. All give the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace model_forensics {

// Windows that follow each other in one row.
struct Windows {
  const std::uint8_t* symbols;  // where the first window starts
  std::int64_t count;
  std::int64_t window;
  std::int64_t stride;
  double* bits;  // [count]
};

// The part of a call that goes to a kernel at once.
struct Piece {
  std::size_t row;
  std::int64_t count;  // of windows
  std::int64_t begin;  // of the symbols: where the first window starts
  std::int64_t end;    // where the piece after it begins; every symbol of a row with windows belongs to one piece
};

// The piece that starts with window `at` of the whole output and ends with the row, with `most` windows or before window
// `stop`. `first_window` [rows + 1] says which is the first of each row; `row` is not after that of window `at`.
Piece piece_at(std::int64_t at, std::int64_t stop, std::int64_t most, std::size_t row,
               std::span<const std::int64_t> first_window, std::span<const std::int64_t> offsets, std::int64_t stride);

// What moving a window costs: delta[c] = cost[c + 1] - cost[c].
struct SlidingCosts {
  SlidingCosts(std::span<const std::int64_t> cost);

  std::vector<std::int64_t> delta;
  std::int64_t whole;  // cost[window]
  double scale;
};

// For windows of up to 256 symbols: the sum over all symbols of saving[count] + rest is cost[window] minus the costs of
// all counts. saving[c] = slope * c - cost[c] is small and not negative, so it has five bytes; and as saving[256] is
// saving[0], counts may be kept modulo 256.
struct TallyCosts {
  explicit TallyCosts(std::span<const std::int64_t> cost);

  bool valid;  // whether the cost table allows all that
  std::array<std::int64_t, 256> saving{};
  alignas(64) std::array<std::array<std::uint8_t, 256>, 5> byte{};  // byte[i][c]: byte i of saving[c], the lowest first
  std::int64_t rest = 0;
  double scale = 0.0;
};

// Any window, any stride, any alphabet up to 256.
void slide_windows(const Windows& windows, const SlidingCosts& costs);

// Symbols below 16, a window of at most 256, window and stride multiples of 16, the stride not above the window.
bool sixteen_serves(std::int64_t window, std::int64_t stride);
void sixteen_portable(const Windows& windows, const TallyCosts& costs);
void sixteen_avx512(const Windows& windows, const TallyCosts& costs);  // needs avx512_bytes()

// Any symbols, a window of at most 256, a stride of at least 16; needs avx512_bytes().
bool tally_serves(std::int64_t window, std::int64_t stride);
void tally_avx512(const Windows& windows, const TallyCosts& costs);

}  // namespace model_forensics
