#include "crc32c.hpp"

#include <array>
#include <cstring>

#include "isa.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#endif

namespace model_forensics {

namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // reflected
using Table = std::array<std::array<std::uint32_t, 256>, 8>;

// kTables[k][b]: what byte b contributes when k more bytes follow, so that eight bytes go in one step.
constexpr Table kTables = [] {
  Table tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1U) != 0 ? kPolynomial : 0U);
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFFU];
    }
  }
  return tables;
}();

std::uint32_t by_tables(std::uint32_t state, const std::uint8_t* data, std::size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    std::uint32_t next = 0;
    for (std::size_t k = 0; k < 4; ++k) next ^= kTables[7 - k][data[k] ^ ((state >> (8 * k)) & 0xFFU)];
    for (std::size_t k = 4; k < 8; ++k) next ^= kTables[7 - k][data[k]];
    state = next;
  }
  for (; size > 0; --size, ++data) state = (state >> 8) ^ kTables[0][(state ^ *data) & 0xFFU];
  return state;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t state, const std::uint8_t* data,
                                                               std::size_t size) {
  std::uint64_t wide = state;
  for (; size >= 8; size -= 8, data += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; size > 0; --size, ++data) narrow = _mm_crc32_u8(narrow, *data);
  return narrow;
}
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::uint8_t> data) {
  const std::uint32_t start = 0xFFFFFFFFU;
#if defined(__x86_64__) && defined(__GNUC__)
  if (isa() >= Isa::avx2) return ~by_instruction(start, data.data(), data.size());
#endif
  return ~by_tables(start, data.data(), data.size());
}

}  // namespace model_forensics
