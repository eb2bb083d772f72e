#include "patch.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "checks.hpp"
#include "parallel.hpp"

namespace model_forensics {

namespace {

constexpr std::int64_t kTaskWords = 16 << 10;  // below this a thread costs more than it saves

// Whether first + (count - 1) * stride + width <= limit, all of them non-negative, without overflow.
bool within(std::int64_t first, std::int64_t count, std::int64_t stride, std::int64_t width, std::int64_t limit) {
  if (first < 0 || count < 0 || stride < 0 || width < 0) return false;
  if (count == 0 || width == 0) return true;
  if (first > limit || width > limit - first) return false;
  return stride == 0 || count - 1 <= (limit - first - width) / stride;
}

void require_layout(const HiddenLayout& layout, std::int64_t words) {
  require(layout.rows >= 0 && layout.tokens >= 0 && layout.features >= 0, "hidden must not have negative sizes");
  if (layout.rows == 0 || layout.tokens == 0 || layout.features == 0) return;
  require(within(0, layout.tokens, layout.token_stride, layout.features, words) &&
              within((layout.tokens - 1) * layout.token_stride, layout.rows, layout.row_stride, layout.features, words),
          "hidden must hold all its rows and tokens");
}

void require_selection(std::int64_t first, std::int64_t count, std::int64_t index, std::int64_t size,
                       std::span<const std::int64_t> indices) {
  if (index == -1) {
    require(within(first, 1, 0, count, size), "a selection is outside the hidden states");
    return;
  }
  require(within(index, 1, 0, count, length(indices)), "a selection is outside the indices");
  const auto chosen = indices.subspan(static_cast<std::size_t>(index), static_cast<std::size_t>(count));
  require(std::all_of(chosen.begin(), chosen.end(), [size](std::int64_t i) { return i >= 0 && i < size; }),
          "an index is outside the hidden states");
}

void require_edit(const PatchEdit& edit, const HiddenLayout& layout, std::span<const std::int64_t> indices,
                  std::int64_t values) {
  require(edit.row >= 0 && edit.row < layout.rows, "a row is outside the hidden states");
  require_selection(edit.token_first, edit.token_count, edit.token_index, layout.tokens, indices);
  require_selection(edit.feature_first, edit.feature_count, edit.feature_index, layout.features, indices);
  require(edit.value == -1 || within(edit.value, edit.token_count, edit.value_stride, edit.feature_count, values),
          "an edit is outside the values");
}

// The edits' tokens, numbered through: the words of one token are the unit of work.
std::vector<std::int64_t> first_lines(std::span<const PatchEdit> edits) {
  std::vector<std::int64_t> first(edits.size() + 1, 0);
  for (std::size_t i = 0; i < edits.size(); ++i) {
    first[i + 1] = first[i] + (edits[i].feature_count > 0 ? edits[i].token_count : 0);
  }
  return first;
}

template <typename Word>
void write_line(Word* line, const PatchEdit& edit, const std::int64_t* indices, const Word* values) {
  const auto count = static_cast<std::size_t>(edit.feature_count);
  if (edit.feature_index >= 0) {
    const std::int64_t* feature = indices + edit.feature_index;
    for (std::size_t f = 0; f < count; ++f) line[feature[f]] = values == nullptr ? Word{0} : values[f];
  } else if (values == nullptr) {
    std::memset(line + edit.feature_first, 0, count * sizeof(Word));
  } else {
    std::memcpy(line + edit.feature_first, values, count * sizeof(Word));
  }
}

}  // namespace

template <typename Word>
void patch_rows(std::span<Word> hidden, const HiddenLayout& layout, std::span<const PatchEdit> edits,
                std::span<const std::int64_t> indices, std::span<const Word> values) {
  require_layout(layout, length(hidden));
  for (const PatchEdit& edit : edits) require_edit(edit, layout, indices, length(values));
  const std::vector<std::int64_t> first = first_lines(edits);
  std::int64_t widest = 1;
  for (const PatchEdit& edit : edits) widest = std::max(widest, edit.feature_count);
  const std::int64_t grain = std::max<std::int64_t>(1, kTaskWords / widest);
  parallel_for(first.back(), grain, [&](std::int64_t begin, std::int64_t end) {
    auto number = static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), begin) - first.begin()) - 1;
    for (std::int64_t line = begin; line < end; ++line) {
      while (line >= first[number + 1]) ++number;
      const PatchEdit& edit = edits[number];
      const std::int64_t t = line - first[number];
      const std::int64_t token = edit.token_index < 0 ? edit.token_first + t
                                                      : indices[static_cast<std::size_t>(edit.token_index + t)];
      write_line(hidden.data() + edit.row * layout.row_stride + token * layout.token_stride, edit, indices.data(),
                 edit.value < 0 ? nullptr : values.data() + edit.value + t * edit.value_stride);
    }
  });
}

template void patch_rows(std::span<std::uint16_t>, const HiddenLayout&, std::span<const PatchEdit>,
                         std::span<const std::int64_t>, std::span<const std::uint16_t>);
template void patch_rows(std::span<std::uint32_t>, const HiddenLayout&, std::span<const PatchEdit>,
                         std::span<const std::int64_t>, std::span<const std::uint32_t>);

}  // namespace model_forensics
