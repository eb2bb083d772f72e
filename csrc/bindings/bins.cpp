#include "bins.hpp"

#include "arguments.hpp"
#include "bindings.hpp"
#include "released_gil.hpp"

namespace model_forensics {

void bind_bins(py::module_& module) {
  module.def("bin_sums", [](const py::array& x, const py::array& bins, const py::array& starts, const py::array& centre,
                            const py::array& spread, double limit, py::array total, py::array squares) {
    const auto x_in = input<double>(x, "x");
    const auto bins_in = input<std::int64_t>(bins, "bins");
    const auto starts_in = input<std::int64_t>(starts, "starts");
    const BinDistance distance{input<double>(centre, "centre"), input<double>(spread, "spread"), limit};
    const auto total_out = output<double>(total, "total");
    const auto squares_out = output<double>(squares, "squares");
    const ReleasedGil released;
    bin_sums(x_in, bins_in, starts_in, distance, total_out, squares_out);
  });
}

}  // namespace model_forensics
