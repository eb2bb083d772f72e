// Words of hidden states replaced by other words, many edits in one call. Nothing is computed, so every bit survives.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// Hidden states [rows, tokens, features]; strides in words, the features of a token are adjacent.
struct HiddenLayout {
  std::int64_t rows;
  std::int64_t tokens;
  std::int64_t features;
  std::int64_t row_stride;
  std::int64_t token_stride;
};

// One line of the table of edits. A selection is first .. first + count where its index is -1, else the `count` entries
// of the list of indices from `index` on. A value of -1 means zero; a value_stride of 0 repeats one line for all tokens.
struct PatchEdit {
  std::int64_t row;
  std::int64_t token_first, token_count, token_index;
  std::int64_t feature_first, feature_count, feature_index;
  std::int64_t value, value_stride;
};

// Writes the edits into `hidden`, a span from the first to the last word of the layout. No two edits may write the same
// word: they may run at the same time. Word is std::uint16_t or std::uint32_t. Throws std::invalid_argument before
// anything is written where an edit leaves the layout, the indices or the values.
template <typename Word>
void patch_rows(std::span<Word> hidden, const HiddenLayout& layout, std::span<const PatchEdit> edits,
                std::span<const std::int64_t> indices, std::span<const Word> values);

}  // namespace model_forensics
