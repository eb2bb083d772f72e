#include "costs.hpp"

#include <algorithm>
#include <array>

#include "isa.hpp"
#include "x86.hpp"

namespace model_forensics {

namespace {

bool all_below(const Tile& tile, TileSymbols symbols, std::int64_t alphabet) {
  if (alphabet == 256) return true;
  std::uint8_t largest = 0;
  for (std::int64_t row = 0; row < tile.tokens; ++row) {
    const std::uint8_t* symbol = symbols.first + row * symbols.stride;
    for (std::int64_t c = 0; c < tile.channels; ++c) largest = std::max(largest, symbol[c]);
  }
  return largest < alphabet;
}

// Eight rows at a time: one store for eight symbols.
void add_channels(const Tile& tile, TileSymbols symbols, const CostTables& costs, std::int64_t* channel_sums) {
  constexpr std::int64_t kRows = 8;
  std::int64_t row = 0;
  for (; row + kRows <= tile.tokens; row += kRows) {
    const std::uint8_t* first = symbols.first + row * symbols.stride;
    for (std::int64_t c = 0; c < tile.channels; ++c) {
      const std::int32_t* table = costs.table[c];
      const std::uint8_t* symbol = first + c;
      std::int64_t sum = 0;
      for (std::int64_t r = 0; r < kRows; ++r) sum += table[symbol[r * symbols.stride]];
      channel_sums[c] += sum;
    }
  }
  for (; row < tile.tokens; ++row) {
    const std::uint8_t* symbol = symbols.first + row * symbols.stride;
    for (std::int64_t c = 0; c < tile.channels; ++c) channel_sums[c] += costs.table[c][symbol[c]];
  }
}

void add_channels_and_tokens(const Tile& tile, TileSymbols symbols, const CostTables& costs,
                             std::int64_t* channel_sums, std::int64_t* token_sums) {
  for (std::int64_t row = 0; row < tile.tokens; ++row) {
    const std::uint8_t* symbol = symbols.first + row * symbols.stride;
    std::int64_t sum = 0;
    for (std::int64_t c = 0; c < tile.channels; ++c) {
      const std::int64_t cost = costs.table[c][symbol[c]];
      channel_sums[c] += cost;
      sum += cost;
    }
    token_sums[row] += sum;
  }
}

#ifdef MODEL_FORENSICS_X86

// Costs of at most 64 symbols are looked up in registers. All indices in a vector must then belong to one channel:
// 16 tokens x 64 channels of symbols are transposed as bytes, which gives each channel its 16 tokens side by side; they
// are widened, looked up and added in 32 bits.
constexpr std::int64_t kGroup = 16;    // tokens in a vector
constexpr std::int64_t kColumns = 64;  // channels transposed together
constexpr std::int64_t kGroups = kTileTokens / kGroup;
constexpr std::int64_t kMostCost = 1 << 25;  // sums of 64 costs below it fit into 32 bits

// Symbols of 64 channels x 64 tokens: byte [group][channel % 16][channel / 16][token].
struct Columns {
  alignas(64) std::uint8_t symbols[kGroups * kGroup * kColumns];
  std::uint8_t largest;
};

// Interleaves rows i and i + 8 four times: the bits of (row, column) rotate by one each time, and change places.
MODEL_FORENSICS_AVX512 inline void transpose(__m512i rows[kGroup]) {
  for (int round = 0; round < 4; ++round) {
    __m512i next[kGroup];
    for (std::size_t i = 0; i < 8; ++i) {
      next[2 * i] = _mm512_unpacklo_epi8(rows[i], rows[i + 8]);
      next[2 * i + 1] = _mm512_unpackhi_epi8(rows[i], rows[i + 8]);
    }
    for (std::size_t i = 0; i < 16; ++i) rows[i] = next[i];
  }
}

MODEL_FORENSICS_AVX512 void gather_columns(const std::uint8_t* symbols, std::int64_t stride, std::int64_t tokens,
                                           __mmask64 wanted, Columns& columns) {
  __m512i largest = _mm512_setzero_si512();
  for (std::int64_t group = 0; group * kGroup < tokens; ++group) {
    __m512i rows[kGroup];
    for (std::int64_t i = 0; i < kGroup; ++i) {
      const std::int64_t token = group * kGroup + i;
      const __mmask64 mask = token < tokens ? wanted : 0;
      rows[i] = _mm512_maskz_loadu_epi8(mask, symbols + std::min(token, tokens - 1) * stride);
      largest = _mm512_max_epu8(largest, rows[i]);
    }
    transpose(rows);
    std::uint8_t* out = columns.symbols + group * kGroup * kColumns;
    for (std::int64_t i = 0; i < kGroup; ++i) _mm512_store_si512(out + i * kColumns, rows[i]);
  }
  alignas(64) std::uint8_t bytes[kColumns];
  _mm512_store_si512(bytes, largest);
  columns.largest = *std::max_element(bytes, bytes + kColumns);
}

// A table of 32 (two registers) or 64 (four) costs; entries beyond the alphabet are zero.
template <int registers>
struct Table {
  __m512i part[registers];
};

template <int registers>
MODEL_FORENSICS_AVX512 inline Table<registers> load_table(const std::int32_t* costs, const __mmask16* present) {
  Table<registers> table;
  for (int i = 0; i < registers; ++i) {
    table.part[i] = _mm512_maskz_loadu_epi32(present[i], present[i] == 0 ? costs : costs + 16 * i);
  }
  return table;
}

template <int registers>
MODEL_FORENSICS_AVX512 inline __m512i look_up(const Table<registers>& table, __m512i index) {
  const __m512i low = _mm512_permutex2var_epi32(table.part[0], index, table.part[1]);
  if constexpr (registers == 2) {
    return low;
  } else {
    const __mmask16 above = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
    const __m512i high = _mm512_permutex2var_epi32(table.part[2], index, table.part[3]);
    return _mm512_mask_mov_epi32(low, above, high);
  }
}

// Lane i of the result is the sum of the lanes of sums[i].
MODEL_FORENSICS_AVX512 inline __m512i sum_lanes(__m512i sums[kGroup]) {
  __m512i eight[8];
  for (std::size_t i = 0; i < 8; ++i) {
    eight[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2 * i], sums[2 * i + 1]),
                                _mm512_unpackhi_epi32(sums[2 * i], sums[2 * i + 1]));
  }
  __m512i four[4];
  for (std::size_t i = 0; i < 4; ++i) {
    four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(eight[2 * i], eight[2 * i + 1]),
                               _mm512_unpackhi_epi64(eight[2 * i], eight[2 * i + 1]));
  }
  __m512i two[2];
  for (std::size_t i = 0; i < 2; ++i) {
    two[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], 0x88),
                              _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], 0xDD));
  }
  return _mm512_add_epi32(_mm512_shuffle_i32x4(two[0], two[1], 0x88), _mm512_shuffle_i32x4(two[0], two[1], 0xDD));
}

MODEL_FORENSICS_AVX512 inline void add_to(std::int64_t* sums, __m512i values, __mmask16 wanted) {
  const auto low = static_cast<__mmask8>(wanted);
  const auto high = static_cast<__mmask8>(wanted >> 8);
  const __m512i first = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(values));
  const __m512i second = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(values, 1));
  _mm512_mask_storeu_epi64(sums, low, _mm512_add_epi64(_mm512_maskz_loadu_epi64(low, sums), first));
  _mm512_mask_storeu_epi64(sums + 8, high, _mm512_add_epi64(_mm512_maskz_loadu_epi64(high, sums + 8), second));
}

MODEL_FORENSICS_AVX512 inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>((1U << std::clamp<std::int64_t>(count, 0, 16)) - 1);
}

// Sixteen channels, all tokens of the tile. `whole`: of 16 channels and 64 tokens none is missing.
template <int registers, bool with_tokens, bool whole>
MODEL_FORENSICS_AVX512 inline void add_sixteen(const Columns& columns, std::int64_t lane, std::int64_t channels,
                                               std::int64_t tokens, const CostTables& costs, std::int64_t first,
                                               std::int64_t* channel_sums, __m512i token_sums[kGroups]) {
  __mmask16 present[registers];
  for (int i = 0; i < registers; ++i) present[i] = first_lanes(costs.alphabet - 16 * i);
  __m512i sums[kGroup];
  for (std::int64_t i = 0; i < kGroup; ++i) {
    sums[i] = _mm512_setzero_si512();
    if (!whole && i >= channels) continue;
    const auto table = load_table<registers>(costs.table[first + i], present);
    for (std::int64_t group = 0; group < kGroups; ++group) {
      if (!whole && group * kGroup >= tokens) continue;
      const std::uint8_t* symbols = columns.symbols + (group * kGroup + i) * kColumns + lane * kGroup;
      const __m512i index = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(symbols)));
      __m512i cost = look_up<registers>(table, index);
      if constexpr (!whole) cost = _mm512_maskz_mov_epi32(first_lanes(tokens - group * kGroup), cost);
      sums[i] = _mm512_add_epi32(sums[i], cost);
      if constexpr (with_tokens) token_sums[group] = _mm512_add_epi32(token_sums[group], cost);
    }
  }
  add_to(channel_sums + first, sum_lanes(sums), first_lanes(channels));
}

template <int registers, bool with_tokens>
MODEL_FORENSICS_AVX512 void add_columns(const Columns& columns, std::int64_t channels, std::int64_t tokens,
                                        const CostTables& costs, std::int64_t first, std::int64_t* channel_sums,
                                        std::int64_t* token_sums) {
  __m512i tokens_32[kGroups];
  for (auto& sums : tokens_32) sums = _mm512_setzero_si512();
  for (std::int64_t lane = 0; lane * kGroup < channels; ++lane) {
    const std::int64_t present = std::min(kGroup, channels - lane * kGroup);
    const auto run = present == kGroup && tokens == kTileTokens ? &add_sixteen<registers, with_tokens, true>
                                                                : &add_sixteen<registers, with_tokens, false>;
    run(columns, lane, present, tokens, costs, first + lane * kGroup, channel_sums, tokens_32);
  }
  if constexpr (with_tokens) {
    for (std::int64_t group = 0; group * kGroup < tokens; ++group) {
      add_to(token_sums + group * kGroup, tokens_32[group], first_lanes(tokens - group * kGroup));
    }
  }
}

MODEL_FORENSICS_AVX512 bool add_costs_avx512(const Tile& tile, TileSymbols symbols, const CostTables& costs,
                                             std::int64_t* channel_sums, std::int64_t* token_sums) {
  Columns columns;
  for (std::int64_t first = 0; first < tile.channels; first += kColumns) {
    const std::int64_t channels = std::min(kColumns, tile.channels - first);
    const __mmask64 wanted = channels == kColumns ? ~__mmask64{0} : (__mmask64{1} << channels) - 1;
    gather_columns(symbols.first + first, symbols.stride, tile.tokens, wanted, columns);
    if (columns.largest >= costs.alphabet) return false;
    const bool small = columns.largest < 32;
    const auto run = token_sums == nullptr ? (small ? &add_columns<2, false> : &add_columns<4, false>)
                                           : (small ? &add_columns<2, true> : &add_columns<4, true>);
    run(columns, channels, tile.tokens, costs, first, channel_sums, token_sums);
  }
  return true;
}

#endif

}  // namespace

bool add_costs(const Tile& tile, TileSymbols symbols, const CostTables& costs, std::int64_t* channel_sums,
               std::int64_t* token_sums) {
#ifdef MODEL_FORENSICS_X86
  if (costs.alphabet <= 64 && costs.largest < kMostCost && isa() >= Isa::avx512) {
    return add_costs_avx512(tile, symbols, costs, channel_sums, token_sums);
  }
#endif
  if (!all_below(tile, symbols, costs.alphabet)) return false;
  if (token_sums == nullptr) {
    add_channels(tile, symbols, costs, channel_sums);
  } else {
    add_channels_and_tokens(tile, symbols, costs, channel_sums, token_sums);
  }
  return true;
}

}  // namespace model_forensics
