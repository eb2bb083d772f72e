// Lanes decoded together, for any model with symbol<kChecked>(lane).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "isa.hpp"
#include "range_coder.hpp"

namespace model_forensics {

// One lane over `rows` rows of `stride` symbols.
template <bool kChecked, typename Model>
void decode_rows_1(const Model& model, std::uint8_t* symbols, std::size_t rows, std::size_t stride,
                   DecoderLane* states) {
  DecoderLane lane = states[0];
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) symbols[0] = model.template symbol<kChecked>(lane);
  states[0] = lane;
}

// Eight neighbouring lanes, as variables of their own: one symbol takes some fifty cycles from its range to the next, and
// only that many lanes hide them.
template <bool kChecked, typename Model>
[[gnu::always_inline]] inline void decode_rows_8(const Model& model, std::uint8_t* symbols, std::size_t rows,
                                                 std::size_t stride, DecoderLane* states) {
  DecoderLane a = states[0];
  DecoderLane b = states[1];
  DecoderLane c = states[2];
  DecoderLane d = states[3];
  DecoderLane e = states[4];
  DecoderLane f = states[5];
  DecoderLane g = states[6];
  DecoderLane h = states[7];
  for (std::size_t row = 0; row < rows; ++row, symbols += stride) {
    symbols[0] = model.template symbol<kChecked>(a);
    symbols[1] = model.template symbol<kChecked>(b);
    symbols[2] = model.template symbol<kChecked>(c);
    symbols[3] = model.template symbol<kChecked>(d);
    symbols[4] = model.template symbol<kChecked>(e);
    symbols[5] = model.template symbol<kChecked>(f);
    symbols[6] = model.template symbol<kChecked>(g);
    symbols[7] = model.template symbol<kChecked>(h);
  }
  states[0] = a;
  states[1] = b;
  states[2] = c;
  states[3] = d;
  states[4] = e;
  states[5] = f;
  states[6] = g;
  states[7] = h;
}

template <bool kChecked, typename Model>
void decode_rows_portable(const Model& model, std::uint8_t* symbols, std::size_t rows, std::size_t stride,
                          DecoderLane* states) {
  decode_rows_8<kChecked>(model, symbols, rows, stride, states);
}

// The same with shifts that need no flags.
template <bool kChecked, typename Model>
MODEL_FORENSICS_BMI2 void decode_rows_bmi2(const Model& model, std::uint8_t* symbols, std::size_t rows,
                                           std::size_t stride, DecoderLane* states) {
  decode_rows_8<kChecked>(model, symbols, rows, stride, states);
}

inline bool enough_words(const DecoderLane* states, std::size_t lanes, std::size_t bytes) {
  return std::all_of(states, states + lanes, [bytes](const DecoderLane& lane) {
    return static_cast<std::size_t>(lane.end - lane.next) >= bytes;
  });
}

// All lanes over whole rows, of which one takes at most `row_bytes` bytes of words a lane.
template <typename Model>
void decode_block(const Model& model, std::uint8_t* symbols, std::size_t rows, std::size_t lanes,
                  std::size_t row_bytes, DecoderLane* states) {
  const bool bmi2 = isa() >= Isa::avx2;
  std::size_t lane = 0;
  for (; lane + 8 <= lanes; lane += 8) {
    const bool enough = enough_words(states + lane, 8, rows * row_bytes + 2);
    const auto decode_eight = enough ? (bmi2 ? decode_rows_bmi2<false, Model> : decode_rows_portable<false, Model>)
                                    : (bmi2 ? decode_rows_bmi2<true, Model> : decode_rows_portable<true, Model>);
    decode_eight(model, symbols + lane, rows, lanes, states + lane);
  }
  for (; lane < lanes; ++lane) decode_rows_1<true>(model, symbols + lane, rows, lanes, states + lane);
}

}  // namespace model_forensics
