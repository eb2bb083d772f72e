#include "codelength.hpp"

#include "arguments.hpp"
#include "bindings.hpp"
#include "site_arguments.hpp"

namespace model_forensics {

void bind_codelength(py::module_& module) {
  module.def("codelength", [](const py::array& data, const py::array& shapes, int scale, std::int64_t levels,
                              const py::array& low, const py::array& step, const py::array& cost,
                              const py::array& tables, std::int64_t block_tokens, std::int64_t block_channels,
                              py::array channel, py::array token, py::array site, py::array cell) {
    const Grid grid = grid_from(scale, levels, low, step);
    const auto data_in = input_from(data, scale, grid);
    const auto shapes_in = input<std::int64_t>(shapes, "shapes");
    const StaticModel model{input<std::int32_t>(cost, "cost"), columns(cost, "cost"),
                            input<std::int32_t>(tables, "tables")};
    const CostSums sums{output<std::int64_t>(channel, "channel"), output<std::int64_t>(token, "token"),
                        output<std::int64_t>(site, "site"), output<std::int64_t>(cell, "cell")};
    const py::gil_scoped_release released;
    codelength(data_in, read_sites(shapes_in, {block_tokens, block_channels}), model, sums);
  });
}

}  // namespace model_forensics
