#include "patch.hpp"

#include "arguments.hpp"
#include "bindings.hpp"

namespace model_forensics {

namespace {

static_assert(sizeof(PatchEdit) == 9 * sizeof(std::int64_t));

std::span<const PatchEdit> edits_of(const py::array& table) {
  const auto numbers = input<std::int64_t>(table, "edits");
  if (columns(table, "edits") != 9) throw py::value_error("edits must have 9 columns");
  return {reinterpret_cast<const PatchEdit*>(numbers.data()), numbers.size() / 9};
}

// Strides of the rows and tokens, in words; the features must be adjacent.
HiddenLayout layout_of(const py::array& hidden) {
  if (hidden.ndim() != 3) throw py::value_error("hidden must have three dimensions");
  if (hidden.size() == 0) return {hidden.shape(0), hidden.shape(1), hidden.shape(2), 0, 0};
  const auto item = static_cast<std::int64_t>(hidden.itemsize());
  HiddenLayout layout{hidden.shape(0), hidden.shape(1), hidden.shape(2), hidden.strides(0), hidden.strides(1)};
  if (layout.rows <= 1) layout.row_stride = 0;  // NumPy may hold anything there
  if (layout.tokens <= 1) layout.token_stride = 0;
  if (layout.features > 1 && hidden.strides(2) != item) throw py::value_error("the features must be adjacent");
  if (layout.row_stride < 0 || layout.token_stride < 0 || layout.row_stride % item != 0 ||
      layout.token_stride % item != 0) {
    throw py::value_error("the strides of hidden must be whole words, not negative");
  }
  layout.row_stride /= item;
  layout.token_stride /= item;
  return layout;
}

template <typename Word>
void patch(py::array& hidden, const py::array& edits, const py::array& indices, const py::array& values) {
  if (reinterpret_cast<std::uintptr_t>(hidden.data()) % alignof(Word) != 0) {
    throw py::value_error("hidden must be aligned");
  }
  const HiddenLayout layout = layout_of(hidden);
  const std::int64_t last = (layout.rows - 1) * layout.row_stride + (layout.tokens - 1) * layout.token_stride;
  const std::int64_t words = hidden.size() == 0 ? 0 : last + layout.features;
  const std::span<Word> target{static_cast<Word*>(hidden.mutable_data()), static_cast<std::size_t>(words)};
  const auto table = edits_of(edits);
  const auto list = input<std::int64_t>(indices, "indices");
  const auto words_in = input<Word>(values, "values");
  const py::gil_scoped_release released;
  patch_rows<Word>(target, layout, table, list, words_in);
}

}  // namespace

void bind_patch(py::module_& module) {
  module.def("patch_rows", [](py::array hidden, const py::array& edits, const py::array& indices,
                              const py::array& values) {
    if (py::isinstance<py::array_t<std::uint16_t>>(hidden)) return patch<std::uint16_t>(hidden, edits, indices, values);
    if (py::isinstance<py::array_t<std::uint32_t>>(hidden)) return patch<std::uint32_t>(hidden, edits, indices, values);
    throw py::type_error("hidden must be uint16 or uint32");
  });
}

}  // namespace model_forensics
